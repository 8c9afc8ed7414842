//! `ovl overlay info`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use crate::cli::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::image::ext::{ExtImage, Facts};
use crate::model::units::show_size;
use crate::store::overlays::OverlayError;
use crate::sys::fs;
use crate::sys::lock::{self, Use};
use crate::ui::table;

/// Shows it.
pub fn run(path: &Path, as_json: bool, context: &Context) -> Outcome {
    let file = fs::open(path).map_err(|error| Failure::usage(error.to_string()))?;
    let meta = fs::metadata(path)?;
    let facts = Facts::read(&file).map_err(|source| OverlayError::Image { path: path.to_owned(), source })?;
    let used = lock::probe_file(&file).map_err(fs::PathError::new("probe the lock of", path))?;
    let holders = if matches!(used, Use::Readers | Use::Writer) { lock::holders(path) } else { Vec::new() };
    let tops = tops(file);
    let obstacle = facts.obstacle().or_else(|| tops.err_text());
    let used_word = match used {
        Use::Free => "no",
        Use::Readers => "yes, read",
        Use::Writer => "yes, written to",
        Use::Unknown => "unknown: no file locks here",
    };
    let in_use = facts.inodes.0.saturating_sub(facts.inodes.1);
    let on_disk = meta.blocks().saturating_mul(512);
    let clean = match (facts.is_clean(), used) {
        (true, _) => "yes",
        (false, Use::Writer) => "not while it is written to",
        (false, _) => "no: it is repaired when it is used next",
    };
    if as_json {
        let text = json!({
            "path": path,
            "kind": facts.kind(),
            "size": facts.size(),
            "file_size": meta.len(),
            "on_disk": on_disk,
            "used": facts.size().saturating_sub(facts.free()),
            "free": facts.free(),
            "block_size": facts.block_size,
            "inodes": facts.inodes.0,
            "inodes_used": in_use,
            "features": facts.features(),
            "clean": facts.is_clean(),
            "owner": tops.owner(),
            "in_use": used_word,
            "holders": holders,
            "apptainer": obstacle.is_none(),
            "apptainer_why_not": obstacle,
        });
        context.ui.out(&text.to_string());
        return Ok(0);
    }
    let mut rows: Vec<(&str, String)> = vec![
        ("file", path.display().to_string()),
        ("kind", facts.kind().to_owned()),
        ("size", format!("{} ({} on disk)", show_size(facts.size()), show_size(on_disk))),
        ("used", show_size(facts.size().saturating_sub(facts.free()))),
        ("free", show_size(facts.free())),
        ("inodes", format!("{in_use} of {}", facts.inodes.0)),
        ("features", facts.features().join(" ")),
        ("clean", clean.to_owned()),
        ("belongs to", tops.text()),
        ("in use", used_word.to_owned()),
        ("apptainer", obstacle.map_or_else(|| "takes it".to_owned(), |why| format!("would not take it: {why}"))),
    ];
    rows.extend(holders.into_iter().map(|holder| ("  by", holder)));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    table::columns(&rows).iter().for_each(|line| context.ui.out(line));
    Ok(0)
}

/// To whom `/upper` and `/work` belong.
enum Tops {
    Owner(u32),
    Missing,
    /// Its superblock says that it cannot be read before it is repaired.
    Unread,
}

fn tops(file: std::fs::File) -> Tops {
    let Ok(image) = ExtImage::open(file, 0) else { return Tops::Unread };
    let found = || {
        let root = image.inode(2).ok()?;
        let names = image.names(&root).ok()?;
        let number = |wanted: &[u8]| names.iter().find(|(name, _)| name == wanted).map(|(_, number)| *number);
        number(b"work")?;
        image.inode(number(b"upper")?).ok()
    };
    found().map_or(Tops::Missing, |inode| Tops::Owner(inode.uid))
}

impl Tops {
    fn owner(&self) -> Option<u32> {
        match self {
            Tops::Owner(uid) => Some(*uid),
            Tops::Missing | Tops::Unread => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Tops::Owner(0) => "root (for commands that see themselves as root)".into(),
            Tops::Owner(uid) => format!("user {uid}"),
            Tops::Missing => "nobody: it has no /upper and /work".into(),
            Tops::Unread => "unknown while it is written to, or before it is repaired".into(),
        }
    }

    fn err_text(&self) -> Option<String> {
        matches!(self, Tops::Missing).then(|| "it has no /upper and /work".to_owned())
    }
}
