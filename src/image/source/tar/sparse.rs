//! Sparse files in archives: old GNU headers with maps in them, and pax forms 0.0, 0.1 (the map is in the extended header)
//! and 1.0 (the map precedes the content).

use super::super::super::error::{ImageError, Result};
use super::header::{BLOCK, number};
use super::input::Input;
use super::pax::Extended;
use super::tree::{Data, Extent};

/// Most stretches of one file.
const MOST: usize = 1 << 20;

fn bad(why: &str) -> ImageError {
    ImageError::corrupt(format!("a sparse file {why}"))
}

/// Reads the content of an old GNU sparse member (`S`), whose header is `block` and which stores `size` bytes; returns
/// the file's real size and its content.
///
/// # Errors
/// When the map contradicts itself.
pub fn old(block: &[u8; BLOCK], size: u64, input: &mut Input) -> Result<(u64, Data)> {
    let field = |at: usize| block.get(at..at + 12).unwrap_or_default();
    let real = unsigned(field(483))?;
    let mut map = Vec::new();
    entries(block, 386, 4, &mut map)?;
    let mut more = block.get(482).is_some_and(|flag| *flag != 0);
    while more {
        let next = input.block()?.ok_or_else(|| bad("whose map is cut off"))?;
        entries(&next, 0, 21, &mut map)?;
        more = next.get(504).is_some_and(|flag| *flag != 0);
    }
    let place = input.take(size)?;
    Ok((real, extents(&map, real, size, place)?))
}

fn unsigned(field: &[u8]) -> Result<u64> {
    u64::try_from(number(field)?).map_err(|_| bad("with a negative place"))
}

/// Pairs (offset, bytes) of 12 characters each; an empty field ends them.
fn entries(block: &[u8; BLOCK], at: usize, count: usize, map: &mut Vec<u64>) -> Result<()> {
    for pair in block.get(at..at + count * 24).unwrap_or_default().chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        if offset.iter().all(|byte| matches!(byte, 0 | b' ')) && length.iter().all(|byte| matches!(byte, 0 | b' ')) {
            break;
        }
        if map.len() >= 2 * MOST {
            return Err(bad("in more pieces than are read here"));
        }
        map.extend([unsigned(offset)?, unsigned(length)?]);
    }
    Ok(())
}

/// The same of a pax member.
///
/// # Errors
/// When the map contradicts itself or the version is not known.
pub fn pax(extended: &Extended, mut size: u64, input: &mut Input) -> Result<(u64, Data)> {
    let real = extended.sparse_size.ok_or_else(|| bad("that does not say how long it is"))?;
    let map = match extended.sparse_version {
        (0, _) => extended.sparse_map.clone(),
        (1, 0) => {
            let (map, used) = leading(size, input)?;
            size -= used;
            map
        }
        (major, minor) => {
            return Err(ImageError::Unsupported(format!("sparse files in version {major}.{minor} of GNU's form")));
        }
    };
    let place = input.take(size)?;
    Ok((real, extents(&map, real, size, place)?))
}

/// The map before the content: a count and so many pairs, a decimal number a line, padded to a block. Returns how many
/// bytes it takes too.
fn leading(size: u64, input: &mut Input) -> Result<(Vec<u64>, u64)> {
    let (mut numbers, mut used, mut value): (Vec<u64>, u64, Option<u64>) = (Vec::new(), 0, None);
    let wanted = |numbers: &[u64]| numbers.first().map(|count| count.saturating_mul(2).saturating_add(1));
    while wanted(&numbers).is_none_or(|wanted| (numbers.len() as u64) < wanted) {
        used += BLOCK as u64;
        if used > size {
            return Err(bad("whose map is cut off"));
        }
        let block = input.block()?.ok_or_else(|| bad("whose map is cut off"))?;
        for byte in block {
            if wanted(&numbers).is_some_and(|wanted| numbers.len() as u64 >= wanted) {
                break;
            }
            match byte {
                b'0'..=b'9' => {
                    let grown =
                        value.unwrap_or(0).checked_mul(10).and_then(|all| all.checked_add((byte - b'0').into()));
                    value = Some(grown.ok_or_else(|| bad("with a number too large in its map"))?);
                }
                b'\n' => numbers.push(value.take().ok_or_else(|| bad("with an empty line in its map"))?),
                _ => return Err(bad("with something else than numbers in its map")),
            }
        }
        if numbers.first().is_some_and(|count| *count > MOST as u64) {
            return Err(bad("in more pieces than are read here"));
        }
    }
    numbers.remove(0);
    Ok((numbers, used))
}

/// Checks a map against the sizes.
fn extents(map: &[u64], real: u64, stored: u64, mut place: u64) -> Result<Data> {
    let begin = place;
    let (mut found, mut end) = (Vec::new(), 0);
    if !map.len().is_multiple_of(2) {
        return Err(bad("with half an entry in its map"));
    }
    for pair in map.chunks_exact(2) {
        let [offset, length] = *pair else { continue };
        let next = offset.checked_add(length).filter(|next| *next <= real && offset >= end);
        end = next.ok_or_else(|| bad("whose map leads out of it"))?;
        if length > 0 {
            found.push(Extent { offset, length, place });
            place = place.checked_add(length).ok_or_else(|| bad("whose map leads out of it"))?;
        }
    }
    if place - begin != stored {
        return Err(bad("whose map and content differ in size"));
    }
    Ok(Data::Sparse(found.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        let data = extents(&[0, 10, 100, 5, 200, 0], 200, 15, 1000).unwrap();
        let Data::Sparse(found) = data else { panic!() };
        assert_eq!(found[1], Extent { offset: 100, length: 5, place: 1010 });
        assert_eq!(found.len(), 2);
        for (map, real, stored) in [
            (&[0, 10][..], 9, 10),
            (&[0, 10, 5, 10], 100, 20),
            (&[0, 10], 100, 11),
            (&[0, 10, 20], 100, 10),
            (&[u64::MAX, 10], u64::MAX, 10),
            (&[10, 1, 0, 1], 100, 2),
        ] {
            assert!(extents(map, real, stored, 0).is_err(), "{map:?}");
        }
    }
}
