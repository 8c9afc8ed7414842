//! SIF files made by hand, good ones and hostile ones.

use super::*;
use crate::sys::pass::memory_file;

/// A descriptor: type, id, group, offset, size, and of partitions (file system, role, architecture).
struct Slot(u32, u32, u32, i64, i64, Option<(u32, u32, [u8; 3])>);

const AMD64: [u8; 3] = *b"02\0";
const TABLE: u64 = 4096;

fn here() -> [u8; 3] {
    [*b"02\0", *b"04\0", *b"06\0", *b"11\0", *b"12\0"].into_iter().find(|arch| !Arch(*arch).is_foreign()).unwrap()
}

fn bytes(slots: &[Slot], length: usize) -> Vec<u8> {
    let mut file = vec![0; length.max(TABLE as usize + slots.len() * object::SIZE)];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"#!/usr/bin/env run-singularity\n");
    put(32, b"SIF_MAGIC\0");
    put(42, b"01\0");
    put(45, &AMD64);
    put(48, &[0xAB; 16]);
    put(64, &1_700_000_000i64.to_le_bytes());
    put(88, &(slots.len() as i64).to_le_bytes());
    put(96, &(TABLE as i64).to_le_bytes());
    for (number, Slot(kind, id, group, offset, size, partition)) in slots.iter().enumerate() {
        let at = TABLE as usize + number * object::SIZE;
        put(at, &kind.to_le_bytes());
        put(at + 4, &[u8::from(*id != 99)]);
        put(at + 5, &id.to_le_bytes());
        put(at + 9, &(group | GROUP).to_le_bytes());
        put(at + 17, &offset.to_le_bytes());
        put(at + 25, &size.to_le_bytes());
        put(at + 73, b"some.name\x07");
        if let Some((fs, role, arch)) = partition {
            put(at + 201, &fs.to_le_bytes());
            put(at + 205, &role.to_le_bytes());
            put(at + 209, arch);
        }
    }
    file
}

const GROUP: u32 = 0xF000_0000;

fn open(bytes: &[u8]) -> Result<Sif> {
    Sif::open(memory_file(bytes).unwrap())
}

fn partition(id: u32, group: u32, at: i64, fs: u32, role: u32) -> Slot {
    Slot(0x4004, id, group, at, 4096, Some((fs, role, here())))
}

#[test]
fn a_good_one_tells_what_is_in_it() {
    let mut file = bytes(
        &[
            Slot(0x4001, 1, 1, 32768, 5, None),
            Slot(0x4003, 2, 1, 36864, 2, None),
            partition(3, 1, 40960, 1, 2),
            Slot(0x4004, 99, 1, 0, 0, None),
            partition(4, 1, 45056, 2, 4),
            partition(5, 2, 49152, 1, 4),
            Slot(0x4005, 6, 0, 53248, 10, None),
            Slot(0x4999, 7, 0, 0, 0, None),
        ],
        57344,
    );
    file[32768..32773].copy_from_slice(b"hello");
    let sif = open(&file).unwrap();
    assert!(sif.warnings().is_empty(), "{:?}", sif.warnings());
    let ids: Vec<u32> = sif.objects().iter().map(|object| object.id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7], "unused slots are passed over");
    let primary = sif.primary().unwrap();
    assert_eq!((primary.id, primary.offset, primary.size, primary.group), (3, 40960, 4096, Some(1)));
    assert_eq!(primary.name, "some.name");
    let overlays: Vec<u32> = sif.overlays().unwrap().iter().map(|object| object.id).collect();
    assert_eq!(overlays, [4], "of the primary's group only");
    assert!(sif.is_signed());
    assert_eq!(sif.content(&sif.objects()[0]).unwrap(), b"hello");
    assert_eq!(sif.objects()[6].kind, Kind::Other(0x4999));
    assert_eq!(sif.id(), "abababab-abab-abab-abab-abababababab");
    assert_eq!(sif.created(), 1_700_000_000);
    sif.check_arch().unwrap();
}

#[test]
fn what_cannot_be_run_is_said_with_a_way_out() {
    let no = |slots: &[Slot]| open(&bytes(slots, 65536)).unwrap();
    let error = no(&[]).primary().unwrap_err().to_string();
    assert!(error.contains("no primary"), "{error}");
    for fs in [5, 6] {
        let error = no(&[partition(1, 1, 40960, fs, 2)]).primary().unwrap_err().to_string();
        assert!(error.contains("encrypted") && error.contains("apptainer build --sandbox"), "{error}");
        let sif = no(&[partition(1, 1, 40960, 1, 2), partition(2, 1, 45056, fs, 4)]);
        assert!(sif.primary().is_ok() && sif.overlays().is_err());
    }
    let error = no(&[partition(1, 1, 40960, 4, 2)]).primary().unwrap_err().to_string();
    assert!(error.contains("raw data"), "{error}");
    let foreign = if std::env::consts::ARCH == "s390x" { *b"04\0" } else { *b"11\0" };
    let sif = no(&[Slot(0x4004, 1, 1, 40960, 4096, Some((1, 2, foreign)))]);
    let error = sif.check_arch().unwrap_err().to_string();
    assert!(error.contains(&Arch(foreign).to_string()) && error.contains(std::env::consts::ARCH), "{error}");
    let unknown = no(&[Slot(0x4004, 1, 1, 40960, 4096, Some((1, 2, *b"77\0")))]);
    unknown.check_arch().unwrap();
    assert_eq!(unknown.arch().to_string(), "unknown");
}

#[test]
fn hostile_descriptors_are_passed_over() {
    let sif = open(&bytes(
        &[
            partition(1, 1, -4096, 1, 2),
            Slot(0x4004, 2, 1, 40960, -1, Some((1, 2, AMD64))),
            Slot(0x4004, 3, 1, i64::MAX, i64::MAX, Some((1, 2, AMD64))),
            partition(4, 1, 65536, 1, 2),
            partition(5, 1, 0, 1, 2),
            partition(6, 1, TABLE as i64 + 10, 1, 2),
            partition(7, 1, 40960, 1, 2),
            partition(8, 1, 43000, 1, 2),
            partition(7, 1, 49152, 1, 2),
            partition(0, 1, 53248, 1, 2),
        ],
        65536,
    ))
    .unwrap();
    let ids: Vec<u32> = sif.objects().iter().map(|object| object.id).collect();
    assert_eq!((ids, sif.warnings().len()), (vec![7], 9), "{:?}", sif.warnings());
    assert_eq!(sif.primary().unwrap().offset, 40960);
}

#[test]
fn hostile_headers_are_errors() {
    let good = bytes(&[partition(1, 1, 40960, 1, 2)], 65536);
    for length in [0, 1, 31, 42, 127, 128, 4096, 4680] {
        assert!(open(&good[..length]).is_err(), "cut at {length}");
    }
    for (at, value) in [
        (88, i64::MAX),
        (88, -1),
        (88, 4097),
        (88, 1000),
        (96, -1),
        (96, i64::MAX),
        (96, 0),
        (96, 65536),
        (96, i64::MIN),
    ] {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert!(open(&bad).is_err(), "{value} at {at}");
    }
    let mut newer = good.clone();
    newer[43] = b'2';
    assert!(open(&newer).unwrap_err().to_string().contains("version"));
    let mut other = good;
    other[32] = b'X';
    assert!(open(&other).is_err());
}

#[test]
fn any_table_is_read_without_harm() {
    use crate::image::squashfs::read::DATA_CACHE;
    // Every byte of a small file through a few values.
    let good = bytes(&[partition(1, 1, 40960, 1, 2), partition(2, 1, 45056, 2, 4)], 49152);
    for at in (0..128).chain(TABLE as usize..TABLE as usize + 2 * object::SIZE) {
        for value in [0, 1, 0x7F, 0x80, 0xFF] {
            let mut bad = good.clone();
            bad[at] = value;
            let Ok(sif) = open(&bad) else { continue };
            let _ = (sif.primary(), sif.overlays(), sif.check_arch());
            for object in sif.objects() {
                let _ = (sif.content(object), sif.ext(object).is_ok());
                assert!(sif.squashfs(object, Caches::new(DATA_CACHE)).is_err());
            }
        }
    }
}
