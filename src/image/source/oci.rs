//! Container images in files: OCI layouts (a directory or a tar archive of one) and what `docker save` writes. Their
//! layers are applied in order, whiteouts included; every digest is verified.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::bytes::Region;
use super::super::error::{ImageError, Result};
use super::super::squashfs::write::Watch;
use super::open::{Found, Quiet, Way, plural};
use super::tar::{self, TarSource};
use super::{AnySource, Union};
use crate::sys::fs;

/// Longest manifest, index or configuration.
const DOCUMENT: u64 = 16 << 20;
/// Indexes within indexes.
const DEPTH: u32 = 4;
/// Bytes hashed at once.
const PIECE: usize = 256 << 10;

/// Where a layout's files are.
enum Place {
    Dir(PathBuf),
    Archive(TarSource),
}

/// A part of a file.
struct Blob {
    file: Arc<File>,
    at: u64,
    length: u64,
}

/// Whether a directory is an OCI layout.
pub fn is_layout(path: &Path) -> bool {
    ["oci-layout", "index.json"].iter().all(|name| fs::metadata(&path.join(name)).is_ok_and(|meta| meta.is_file()))
}

/// Whether an archive is one of a container image.
pub fn is_archive(archive: &TarSource) -> bool {
    let has = |name: &str| archive.place(name.as_bytes()).is_some();
    has("oci-layout") && has("index.json") || has("manifest.json")
}

/// The image in a layout directory.
///
/// # Errors
/// When there is no image for this machine in it, several, a digest does not match, or a layer is damaged.
pub fn layout(path: &Path, way: &Way) -> Result<Found> {
    oci(&Place::Dir(path.to_owned()), "an OCI layout", way)
}

/// The image in an archive.
///
/// # Errors
/// As for [`layout`].
pub fn archive(archive: TarSource, way: &Way) -> Result<Found> {
    let both = archive.place(b"index.json").is_some() && archive.place(b"oci-layout").is_some();
    let place = Place::Archive(archive);
    if both { oci(&place, "an OCI archive", way) } else { docker(&place, way) }
}

fn bad(why: impl Into<String>) -> ImageError {
    ImageError::corrupt(format!("container image: {}", why.into()))
}

impl Place {
    fn blob(&self, path: &str) -> Result<Blob> {
        match self {
            Place::Archive(archive) => {
                let found = archive.place(path.as_bytes()).ok_or_else(|| bad(format!("{path} is missing")))?;
                Ok(Blob { file: found.0, at: found.1, length: found.2 })
            }
            Place::Dir(dir) => {
                let path = dir.join(path);
                let file = fs::open(&path).map_err(|error| bad(error.to_string()))?;
                let length = fs::metadata(&path).map_err(|error| bad(error.to_string()))?.len();
                Ok(Blob { file: Arc::new(file), at: 0, length })
            }
        }
    }

    fn document(&self, path: &str) -> Result<Value> {
        self.blob(path)?.document(path)
    }

    /// The blob of a descriptor, its size and digest verified.
    fn verified(&self, descriptor: &Value, watch: &dyn Watch) -> Result<Blob> {
        let digest = descriptor["digest"].as_str().ok_or_else(|| bad("a descriptor without a digest"))?;
        let blob = self.blob(&format!("blobs/sha256/{}", hex(digest)?))?;
        if descriptor["size"].as_u64().is_some_and(|size| size != blob.length) {
            return Err(bad(format!("{digest} has {} bytes, not {}", blob.length, descriptor["size"])));
        }
        let mut input = blob.region()?;
        check(&mut Hashing::new(&mut input), digest, watch)?;
        Ok(blob)
    }
}

/// The digits of a digest that is a SHA-256 and nothing else: it becomes a part of a path.
fn hex(digest: &str) -> Result<&str> {
    let digits = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
    digits
        .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)))
        .ok_or_else(|| ImageError::Unsupported(format!("container image: '{digest}' is no sha256 digest")))
}

impl Blob {
    fn region(&self) -> Result<RegionReader> {
        Ok(RegionReader { region: Region::within(self.file.clone(), self.at, self.length)?, at: 0 })
    }

    fn document(&self, what: &str) -> Result<Value> {
        if self.length > DOCUMENT {
            return Err(bad(format!("{what} has {} bytes", self.length)));
        }
        let mut bytes = vec![0; self.length as usize];
        self.region()?.region.read_exact(0, &mut bytes, what)?;
        serde_json::from_slice(&bytes).map_err(|error| bad(format!("{what}: {error}")))
    }
}

struct RegionReader {
    region: Region,
    at: u64,
}

impl Read for RegionReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let got = self.region.read_some(self.at, out, "the blob").map_err(std::io::Error::other)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Hashing<R> {
        Hashing { inner, hash: Sha256::new() }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(out)?;
        self.hash.update(out.get(..got).unwrap_or_default());
        Ok(got)
    }
}

/// Reads what is left and compares the digest of all.
fn check<R: Read>(input: &mut Hashing<R>, digest: &str, watch: &dyn Watch) -> Result<()> {
    let wanted = hex(digest)?.to_owned();
    let mut buffer = vec![0; PIECE];
    while input.read(&mut buffer).map_err(ImageError::io("read", "a blob"))? > 0 {
        if watch.cancelled() {
            return Err(ImageError::Interrupted);
        }
    }
    let found: String = std::mem::take(&mut input.hash).finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == wanted { Ok(()) } else { Err(bad(format!("content is sha256:{found}, not {digest}"))) }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn oci(place: &Place, what: &str, way: &Way) -> Result<Found> {
    let manifest = manifest(place, &place.document("index.json")?, DEPTH, way.watch)?;
    let config = place.verified(&manifest["config"], way.watch)?.document("the configuration")?;
    let mut blobs = Vec::new();
    for layer in list(&manifest["layers"]) {
        let kind = layer["mediaType"].as_str().unwrap_or_default();
        if !(kind.contains(".layer.") || kind.contains(".diff.tar")) || kind.contains("encrypted") {
            return Err(ImageError::Unsupported(format!("container image: a layer of type '{kind}'")));
        }
        blobs.push(place.verified(layer, way.watch)?);
    }
    layers(&blobs, &config, what, way)
}

/// The manifest of the image for this machine, found through indexes.
fn manifest(place: &Place, index: &Value, depth: u32, watch: &dyn Watch) -> Result<Value> {
    let mut fitting = Vec::new();
    let mut others = Vec::new();
    for entry in list(&index["manifests"]) {
        let platform = &entry["platform"];
        let text = |key: &str| platform[key].as_str().unwrap_or_default();
        if platform.is_null() || text("os") == "linux" && text("architecture") == architecture() {
            fitting.push(entry);
        } else {
            others.push(format!("{}/{}", text("os"), text("architecture")));
        }
    }
    let name = |entry: &&Value| {
        let annotation = entry["annotations"]["org.opencontainers.image.ref.name"].as_str();
        annotation.or(entry["digest"].as_str()).unwrap_or("?").to_owned()
    };
    let entry = match fitting.as_slice() {
        [entry] => *entry,
        [] => {
            let (here, there) = (architecture(), others.join(", "));
            return Err(ImageError::Unsupported(format!("no container image for linux/{here} in it, only: {there}")));
        }
        // The same image under several names.
        [entry, rest @ ..] if rest.iter().all(|other| other["digest"] == entry["digest"]) => *entry,
        several => {
            let names: Vec<String> = several.iter().map(name).collect();
            return Err(ImageError::Unsupported(format!(
                "several container images in it ({}); save one by itself",
                names.join(", ")
            )));
        }
    };
    let found = place.verified(entry, watch)?.document("a manifest")?;
    if found["layers"].is_array() {
        return Ok(found);
    }
    match depth.checked_sub(1) {
        Some(depth) if found["manifests"].is_array() => manifest(place, &found, depth, watch),
        _ => Err(bad("a manifest without layers")),
    }
}

/// This machine's architecture in the words of Go, as OCI has it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn docker(place: &Place, way: &Way) -> Result<Found> {
    let manifest = place.document("manifest.json")?;
    let [image] = list(&manifest) else {
        let names: Vec<String> = list(&manifest).iter().map(|image| image["RepoTags"].to_string()).collect();
        let text = format!("{} container images in it ({}); save one by itself", names.len(), names.join(", "));
        return Err(ImageError::Unsupported(text));
    };
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| bad("manifest.json lacks a path"));
    let name = text(&image["Config"])?;
    let blob = place.blob(&name)?;
    // It is named after its digest, and itself has those of the layers.
    let digest = name.rsplit('/').next().unwrap_or_default().trim_end_matches(".json").trim_start_matches("sha256:");
    let digest = format!("sha256:{digest}");
    let named = hex(&digest).is_ok();
    if named {
        check(&mut Hashing::new(&mut blob.region()?), &digest, way.watch)?;
    }
    let config = blob.document(&name)?;
    let blobs = list(&image["Layers"]).iter().map(|path| place.blob(&text(path)?)).collect::<Result<Vec<_>>>()?;
    let mut found = layers(&blobs, &config, "an archive of docker save", way)?;
    if !named {
        found.notes.push(format!("the configuration '{name}' is not named after its digest, so it is not verified"));
    }
    Ok(found)
}

/// Opens the layers, verifies what the configuration says about each, and unites them.
fn layers(blobs: &[Blob], config: &Value, what: &str, way: &Way) -> Result<Found> {
    let digests = list(&config["rootfs"]["diff_ids"]);
    if digests.len() != blobs.len() {
        let text = format!("{} for {}", plural(digests.len(), "digest"), plural(blobs.len(), "layer"));
        return Err(bad(text));
    }
    let mut sources = Vec::with_capacity(blobs.len());
    let mut notes = Vec::new();
    for (blob, digest) in blobs.iter().zip(digests) {
        let digest = digest.as_str().ok_or_else(|| bad("a digest that is no text"))?;
        let layer = open_layer(blob, digest, way)?;
        notes.extend(layer.notes().iter().cloned());
        sources.push(AnySource::new(layer));
    }
    if let Some(arch) = config["architecture"].as_str().filter(|arch| *arch != architecture()) {
        notes.push(format!("the system in it is for {arch}, this machine is {}", architecture()));
    }
    let what = format!("{what} ({})", plural(sources.len(), "layer"));
    Ok(Found { source: AnySource::new(Union::new(sources)?), what, notes, config: Some(config.clone()) })
}

fn open_layer(blob: &Blob, digest: &str, way: &Way) -> Result<TarSource> {
    let region = || Region::within(blob.file.clone(), blob.at, blob.length);
    let mut input = Hashing::new(tar::unpacked(region()?, way.watch)?);
    let plain = tar::part_is_plain(&region()?)?;
    // A layer that is not compressed stays where it is; only its digest has to be read for.
    let layer = if plain {
        tar::part(region()?, blob.file.clone(), blob.at, way)?
    } else {
        tar::plain_stream(&mut input, way.scratch, &Quiet(way.watch))?
    };
    check(&mut input, digest, way.watch)?;
    Ok(layer)
}
