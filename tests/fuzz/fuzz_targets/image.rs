//! Any bytes as an image: opened, verified and walked as a tree. Errors are fine; a panic, a read outside of the image,
//! memory without bound or a walk without end are not.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;

use libfuzzer_sys::fuzz_target;
use ovl::image::squashfs::read::{Caches, Image};
use ovl::runtime::tree::layer::{DIR, KIND};
use ovl::runtime::tree::{ImageLayer, ROOT, Tree};

fuzz_target!(|bytes: &[u8]| {
    // SAFETY: the name is NUL-terminated, and the descriptor that comes back belongs to nobody else.
    let mut file = unsafe { File::from_raw_fd(libc::memfd_create(c"image".as_ptr(), 0)) };
    file.write_all(bytes).unwrap();
    let Ok(image) = Image::open_sharing(file, 0, Caches::new(1 << 20)) else { return };
    let _ = image.verify();
    let Ok(tree) = Tree::new(vec![Box::new(ImageLayer(image))]) else { return };
    let (mut waiting, mut budget) = (vec![ROOT], 500);
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = tree.list(dir) else { continue };
        for entry in entries.iter() {
            if budget == 0 {
                return;
            }
            budget -= 1;
            let _ = (tree.lookup(dir, &entry.name), tree.readlink(entry.node), tree.xattrs(entry.node), tree.following(entry.node));
            assert!(tree.number(entry.node) > 0);
            let Ok(attr) = tree.attr(entry.node) else { continue };
            if attr.mode & KIND == DIR {
                waiting.push(entry.node);
                continue;
            }
            let mut buffer = [0; 5000];
            for offset in [0, attr.size / 2, attr.size.saturating_sub(4000)] {
                if let Ok(got) = tree.read(entry.node, offset, &mut buffer) {
                    assert_eq!(got as u64, attr.size.saturating_sub(offset).min(5000));
                }
                if let Ok(Some(range)) = tree.together(entry.node, offset) {
                    assert!(range.contains(&offset) && range.end <= attr.size);
                }
            }
        }
    }
});
