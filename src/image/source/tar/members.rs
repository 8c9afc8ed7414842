//! Reading an archive member by member into a [`Tree`]: plain headers, long names of old GNU archives, extended headers.

use super::super::super::error::{ImageError, Result};
use super::super::super::squashfs::format::XATTR_PREFIXES;
use super::super::{Kind, Meta};
use super::header::{BLOCK, Header};
use super::input::Input;
use super::pax::Extended;
use super::sparse;
use super::tree::{Data, LONGEST_PATH, Node, Tree, shown};

/// Longest extended header or long name: attributes have up to 64 KiB each.
const MOST: u64 = 16 << 20;
/// Longest value of an attribute, and longest name, as Linux has them.
const LONGEST_VALUE: usize = 64 << 10;
const LONGEST_NAME: usize = 255;

/// What precedes a member and belongs to it.
#[derive(Default)]
struct Ahead {
    extended: Extended,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Reads all members. Returns what the user should know.
///
/// # Errors
/// When this is no archive, it is cut off or damaged, or a member's path leads out of it.
pub fn read(input: &mut Input, tree: &mut Tree) -> Result<Vec<String>> {
    let (mut notes, mut globals) = (Vec::new(), Extended::default());
    let (mut ahead, mut first) = (Ahead::default(), true);
    loop {
        let block = match input.block() {
            // Less than a block is no archive either.
            Ok(None) | Err(ImageError::Corrupt(_)) if first => return Err(none()),
            Ok(Some(block)) => block,
            Ok(None) => {
                notes.push("the archive has no end mark; it may have been cut off between two members".into());
                break;
            }
            Err(error) => return Err(error),
        };
        let header = match Header::parse(&block) {
            Ok(Some(header)) => header,
            Ok(None) => break,
            Err(_) if first => return Err(none()),
            Err(error) => return Err(error),
        };
        first = false;
        let mut long = |what: &str| input.bytes(header.size, MOST, what);
        match header.kind {
            b'x' | b'X' => ahead.extended.read(&long("an extended header")?)?,
            b'g' => {
                globals.read(&long("a global extended header")?)?;
                ahead.extended = globals.clone();
            }
            b'L' => ahead.path = Some(until_nul(long("a long name")?)),
            b'K' => ahead.link = Some(until_nul(long("a long link")?)),
            // Access lists of Solaris, names and labels of GNU.
            b'A' | b'N' | b'V' => input.skip(header.size.next_multiple_of(BLOCK as u64))?,
            b'M' => {
                return Err(ImageError::Unsupported("a part of an archive of several volumes; join them first".into()));
            }
            _ => {
                let next = Ahead { extended: globals.clone(), ..Ahead::default() };
                let ahead = std::mem::replace(&mut ahead, next);
                let path = shown(&header.path);
                member(header, &block, ahead, input, tree).map_err(|error| match error {
                    ImageError::Corrupt(text) => ImageError::Corrupt(format!("{text} (member '{path}')")),
                    other => other,
                })?;
            }
        }
    }
    input.drain()?;
    Ok(notes)
}

fn none() -> ImageError {
    ImageError::Unsupported("neither an image nor a tar archive".into())
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn id(value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| ImageError::Unsupported(format!("an owner or group with the number {value}")))
}

fn member(header: Header, block: &[u8; BLOCK], ahead: Ahead, input: &mut Input, tree: &mut Tree) -> Result<()> {
    let Ahead { extended, path, link } = ahead;
    let sparse = extended.is_sparse();
    let path = extended.sparse_path.clone().or(path).or(extended.path.clone()).unwrap_or(header.path);
    let link = link.or(extended.link.clone()).unwrap_or(header.link);
    let mtime = extended.mtime.unwrap_or(header.mtime);
    let size = extended.size.unwrap_or(header.size);
    if path.is_empty() {
        return Err(ImageError::corrupt("a member without a name"));
    }
    if link.len() > LONGEST_PATH {
        let what = format!("the member '{}' is a link to a path of more than {LONGEST_PATH} bytes", shown(&path));
        return Err(ImageError::Unsupported(what));
    }
    let kind = match header.kind {
        // Whatever size it gives, no content follows.
        b'1' => return tree.link(&path, &link, mtime),
        b'2' => Kind::Symlink(link),
        b'3' => Kind::CharDev(header.device.0, header.device.1),
        b'4' => Kind::BlockDev(header.device.0, header.device.1),
        b'5' | b'D' => Kind::Dir,
        b'6' => Kind::Fifo,
        // Archives from before there was a kind for directories.
        _ if path.ends_with(b"/") && !sparse => Kind::Dir,
        _ => Kind::File,
    };
    let (real, data) = match kind {
        Kind::File if header.kind == b'S' => sparse::old(block, size, input)?,
        Kind::File if sparse => sparse::pax(&extended, size, input)?,
        Kind::File if size == 0 => (0, Data::None),
        Kind::File => (size, Data::Whole(input.take(size)?)),
        _ => {
            let padded = size.checked_next_multiple_of(BLOCK as u64);
            input.skip(padded.ok_or_else(|| ImageError::corrupt(format!("a member of {size} bytes")))?)?;
            (0, Data::None)
        }
    };
    let mut xattrs = extended.xattrs;
    xattrs.retain(|(name, _)| XATTR_PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
    if xattrs.iter().any(|(name, value)| name.len() > LONGEST_NAME || value.len() > LONGEST_VALUE) {
        let what = format!("the member '{}' has an attribute of more than 64 KiB", shown(&path));
        return Err(ImageError::Unsupported(what));
    }
    // Of two with the same name the later counts.
    xattrs.reverse();
    xattrs.sort_by(|one, other| one.0.cmp(&other.0));
    xattrs.dedup_by(|one, other| one.0 == other.0);
    let meta = Meta {
        mode: header.mode,
        uid: id(extended.uid.unwrap_or(header.uid))?,
        gid: id(extended.gid.unwrap_or(header.gid))?,
        mtime,
        size: real,
        links: 1,
        inode: (0, 0),
    };
    tree.insert(&path, Node { kind, meta, data, xattrs: xattrs.into(), made_up: false, children: Default::default() })
}
