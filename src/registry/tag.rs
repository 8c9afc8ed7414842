//! Further names for what a registry has: nothing but manifests is transferred.

use super::client::Client;
use super::manifest::{Descriptor, Document, Fetched};
use super::reference::{Digest, Reference};
use super::{Options, RegistryError, Result};
use crate::net::Watch;

/// Indexes within indexes.
const DEPTH: u32 = 4;

/// Gives what `from` means the names `to`; other repositories of the registry get its blobs mounted.
///
/// # Errors
/// When `to` is in another registry, or the registry refuses.
pub fn tag(
    from: &Reference,
    to: &[Reference],
    options: &Options,
    watch: &dyn Watch,
) -> Result<Vec<(Reference, Digest)>> {
    let client = Client::new(&from.registry, options)?;
    let top = client.manifest(from, watch)?;
    for reference in to {
        if reference.registry != from.registry || reference.digest.is_some() {
            return Err(RegistryError::Unfit {
                what: reference.to_string(),
                why: format!("it is no tag in {}", from.registry),
                hint: format!("into another registry it goes with: ovl pull {from}, and ovl push"),
            });
        }
    }
    let mut done = Vec::new();
    for reference in to {
        if reference.repository != from.repository {
            carry(&client, from, &reference.repository, &top, DEPTH, watch)?;
        }
        let tag = Some(reference.tag());
        let digest = client.put_manifest(&reference.repository, tag, &top.media_type, &top.bytes, watch)?;
        done.push((reference.with_tag(reference.tag()), digest));
    }
    Ok(done)
}

/// Mounts all that a manifest or index needs, and puts the manifests of an index.
fn carry(client: &Client, from: &Reference, to: &str, what: &Fetched, depth: u32, watch: &dyn Watch) -> Result<()> {
    match &what.document {
        Document::Manifest(manifest) => {
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                mount(client, from, to, blob, watch)?;
            }
            Ok(())
        }
        Document::Index(index) => {
            let depth =
                depth.checked_sub(1).ok_or_else(|| RegistryError::odd(from, "too many indexes within indexes"))?;
            for entry in &index.manifests {
                let inner = client.manifest(&from.pinned(&entry.digest), watch)?;
                carry(client, from, to, &inner, depth, watch)?;
                client.put_manifest(to, None, &inner.media_type, &inner.bytes, watch)?;
            }
            Ok(())
        }
    }
}

fn mount(client: &Client, from: &Reference, to: &str, blob: &Descriptor, watch: &dyn Watch) -> Result<()> {
    if client.mount(to, &from.repository, &blob.digest, watch)? {
        return Ok(());
    }
    Err(RegistryError::Unfit {
        what: format!("{}/{to}", from.registry),
        why: format!("the registry does not share blob {} between repositories", blob.digest),
        hint: format!("transfer it instead: ovl pull {from}, and ovl push"),
    })
}
