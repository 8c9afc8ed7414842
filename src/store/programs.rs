//! The programs of an overlay: executable files in its program directories, links followed inside of the image.

use std::collections::BTreeMap;

use super::overlays::{Facts, Root};
use crate::image::ImageError;
use crate::image::squashfs::read::{Image, InodeKind as Kind};

/// Most links that lead to one program.
const MOST_LINKS: usize = 16;

/// Programs by name, with their path inside. Of two of one name that is taken which PATH has first. Hidden files and
/// names that are not UTF-8 are left out.
///
/// # Errors
/// When the image is damaged.
pub fn of(image: &Image, facts: &Facts) -> Result<BTreeMap<String, String>, ImageError> {
    let mut programs = BTreeMap::new();
    // The last root's directories come first in PATH.
    for Root { path, programs: dirs } in facts.roots.iter().rev() {
        for dir in dirs {
            let dir = format!("{path}/{dir}");
            let Some(inode) = image.find(dir.as_bytes())?.filter(|inode| inode.kind == Kind::Dir) else { continue };
            for entry in image.list(&inode)? {
                let Ok(name) = String::from_utf8(entry.name) else { continue };
                let path = format!("{dir}/{name}");
                if !name.starts_with('.') && !programs.contains_key(&name) && is_program(image, &path)? {
                    programs.insert(name, path);
                }
            }
        }
    }
    Ok(programs)
}

fn is_program(image: &Image, path: &str) -> Result<bool, ImageError> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Some(inode) = image.find(path.as_bytes())? else { return Ok(false) };
        match inode.kind {
            Kind::File => return Ok(inode.st_mode() & 0o111 != 0),
            Kind::Symlink => {
                let Ok(target) = String::from_utf8(image.readlink(&inode)?) else { return Ok(false) };
                path = beside(&path, &target);
            }
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Where a link at `path` leads, judged by the text.
fn beside(path: &str, target: &str) -> String {
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { dir.split('/').collect() };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_their_text_says() {
        assert_eq!(beside("/cnt/a/1/bin/x", "y"), "/cnt/a/1/bin/y");
        assert_eq!(beside("/cnt/a/1/bin/x", "../lib/./y"), "/cnt/a/1/lib/y");
        assert_eq!(beside("/cnt/a/1/bin/x", "/usr/bin/y"), "/usr/bin/y");
        assert_eq!(beside("/x", "../../y"), "/y");
    }
}
