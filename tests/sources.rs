//! `#SRC`: fetched once, checked, shown read-only, recorded; and where the room for large things is taken.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::support::house::{House, script};
use crate::support::server::{Reply, Web};

fn sha256(bytes: &[u8]) -> String {
    ovl::sys::digest::of(bytes).trim_start_matches("sha256:").to_owned()
}

fn web(files: &[(&str, &[u8])]) -> Web {
    Web::of_files(files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect())
}

#[test]
fn sources_are_fetched_once_and_recorded() {
    let house = House::new();
    let web = web(&[("a.txt", b"first\n"), ("b?x=1", b""), ("b", b"second\n")]);
    let sum = sha256(b"first\n");
    let headers = format!("#SRC:{} sha256={sum}\n#SRC:{} as=other", web.url("a.txt"), web.url("b?token=geheim"));
    let install = "touch $src_dir/x 2>/dev/null && exit 1; echo y > $src_dir/a.txt 2>/dev/null && exit 1; \
                   cat $src_dir/a.txt $src_dir/other > $target_dir/f; ls $src_dir > $target_dir/names";
    house.recipe("s/1.0", script(&headers, install));
    let run = house.ovl(&["build", "s/1.0"]).ok();
    run.says(&format!("4:1: #SRC has no digest; what came has sha256={}", sha256(b"second\n")));
    assert_eq!(web.count(), 2);
    house
        .ovl(&["exec", "-o", "s/1.0", "cat", "/cnt/s/1.0/f", "/cnt/s/1.0/names"])
        .ok()
        .prints("first\nsecond\na.txt\nother\n");
    let info = house.ovl(&["info", "s/1.0", "--json"]).ok();
    assert!(!info.stdout.contains("geheim"), "{info:?}");
    let sources = &info.json()["meta"]["sources"];
    assert_eq!(sources[0]["digest"], format!("sha256:{sum}"));
    assert_eq!((&sources[0]["bytes"], &sources[1]["name"]), (&6.into(), &"other".into()));
    house.ovl(&["info", "s/1.0"]).ok().prints("fetched");
    // Everything that is needed again is here.
    house.ovl(&["build", "-u", "s/1.0"]).ok();
    house.ovl(&["rm", "-y", "s/1.0"]).ok();
    house.ovl(&["build", "--offline", "s/1.0"]).ok();
    assert_eq!(web.count(), 2, "the second build fetched something");
}

#[test]
fn offline_names_everything_that_is_missing_at_once() {
    let house = House::new();
    let web = web(&[("a", b"a")]);
    house.recipe("d/1.0", script(&format!("#SRC:{}", web.url("d")), "true"));
    house.recipe("s/1.0", script(&format!("#DEP:d/1.0\n#SRC:{}\n#SRC:{}", web.url("a"), web.url("b")), "true"));
    let run = house.ovl(&["build", "--offline", "s/1.0"]).code(7);
    for file in ["a", "b", "d"] {
        assert!(run.stderr.contains(&web.url(file)), "{run:?}");
    }
    run.says("the network is not to be used");
    assert_eq!(web.count(), 0);
    assert!(house.names("scratch").is_empty());
}

#[test]
fn a_wrong_digest_ends_the_build_with_both() {
    let house = House::new();
    let web = web(&[("a", b"evil"), ("b", b"")]);
    let wanted = sha256(b"good");
    house.recipe("s/1.0", script(&format!("#SRC:{} sha256={wanted}\n#SRC:{}", web.url("a"), web.url("gone")), "true"));
    let run = house.ovl(&["build", "s/1.0"]).code(5);
    let run = run.says("3:1: ").says(&wanted).says(&sha256(b"evil")).says("4:1: ").says("the server answers 404");
    run.says("look at it before changing the digest");
    assert!(house.names("home/.local/share/ovl/images").is_empty());
    assert!(house.names("scratch").is_empty());
    let file = house.write("work/local", "evil");
    house.recipe("l/1.0", script(&format!("#SRC:file://{} sha256={wanted}", file.display()), "true"));
    house.ovl(&["build", "l/1.0"]).code(5).says(&wanted);
}

#[test]
fn headers_that_cannot_be_fetched_are_refused_before() {
    let house = House::new();
    for (header, what) in [
        ("#SRC:ftp://host/x", "fetched with curl"),
        ("#SRC:https://host/", "ends in no file name"),
        ("#SRC:https://host/a\n#SRC:https://other/a", "is called a too"),
        ("#SRC:https://host/a mirror=nowhere", "is no http, https or file address"),
        ("#SRC:https://host/a sha256=1", "is no sha256"),
    ] {
        house.recipe("s/1.0", script(header, "true"));
        house.ovl(&["build", "s/1.0"]).code(4).says(what);
    }
}

#[test]
fn everything_goes_through_the_proxy_that_is_set() {
    let house = House::new();
    let proxy = Web::start(|asked| match asked.path.as_str() {
        "http://far.invalid/a" => Reply::new(200, "by proxy"),
        _ => Reply::new(403, "no"),
    });
    house.set("http_proxy", proxy.url(""));
    house.set("https_proxy", format!("http://user:geheim@127.0.0.1:{}", proxy.port));
    house.set("OVL_NET_TRIES", "1");
    house.recipe("s/1.0", script("#SRC:http://far.invalid/a", "cp $src_dir/a $target_dir/"));
    house.ovl(&["build", "s/1.0"]).ok();
    assert_eq!(proxy.asked()[0].path, "http://far.invalid/a");
    house.recipe("t/1.0", script("#SRC:https://far.invalid/b", "true"));
    let run = house.ovl(&["build", "t/1.0"]).code(2).says("the proxy refuses").says("proxies as set: https_proxy=");
    run.keeps_quiet_about("geheim");
    // Not for those that are excepted.
    let near = web(&[("c", b"near")]);
    house.set("no_proxy", "127.0.0.1");
    house.recipe("u/1.0", script(&format!("#SRC:{}", near.url("c")), "cp $src_dir/c $target_dir/"));
    house.ovl(&["build", "u/1.0"]).ok();
    assert_eq!((near.count(), proxy.count()), (1, 2));
}

#[test]
fn a_build_that_is_killed_goes_on_with_what_had_come() {
    let house = House::new();
    let all: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let web = Web::start({
        let all = all.clone();
        move |asked| {
            let drip = if asked.number == 0 { Duration::from_millis(60) } else { Duration::ZERO };
            Reply { drip, ..Reply::file(asked, &all, "\"one\"") }
        }
    });
    house.recipe("s/1.0", script(&format!("#SRC:{}", web.url("big")), "cp $src_dir/big $target_dir/"));
    let mut child = house.start(&["build", "s/1.0"]);
    std::thread::sleep(Duration::from_millis(1500));
    child.kill().unwrap();
    child.wait().unwrap();
    house.ovl(&["build", "s/1.0"]).ok();
    let asked = web.asked();
    assert_eq!((web.count(), asked[1].headers.contains_key("range")), (2, true), "{asked:?}");
    house.ovl(&["exec", "-o", "s/1.0", "cmp", "/cnt/s/1.0/big", "/cnt/s/1.0/big"]).ok();
    house.recipe("i/1.0", script(&format!("#SRC:{}?2 as=big", web.url("slow")), "true"));
    house.settle();
}

#[test]
fn reference_data_takes_its_room_where_it_goes_to() {
    let house = House::new();
    let genome = vec![b'A'; 4 << 20];
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &genome).unwrap();
    let web = web(&[("genome.fa.gz", &packed.finish().unwrap())]);
    let install = "df --output=target $target_dir | tail -1 >&2; stat -c %i $src_dir/genome.fa.gz > $target_dir/inode; \
                   ovl_unpack $src_dir/genome.fa.gz $target_dir; test \"$(stat -c %s $target_dir/genome.fa)\" = 4194304; \
                   echo stays > $tmp_dir/probe; while [ ! -e $tmp_dir/home/go ]; do sleep 0.05; done";
    house.recipe("g/genome/1", script(&format!("#SRC:{}\n#VERIFY:genome.fa", web.url("genome.fa.gz")), install));
    let child = house.start(&["build", "g/genome/1"]);
    let work = house.layer().join("work");
    let find = || {
        let dir = std::fs::read_dir(&work).ok()?.next()?.ok()?.path();
        dir.join("tmp/probe").exists().then_some(dir)
    };
    let found = (0..400).find_map(|_| {
        std::thread::sleep(Duration::from_millis(25));
        find()
    });
    let dir = found.expect("nothing is built beside the images");
    assert!(house.names("scratch").is_empty(), "{:?}", house.names("scratch"));
    // The file that was fetched is shown, not copied.
    assert_eq!(std::fs::metadata(dir.join("src/genome.fa.gz")).unwrap().len(), 0);
    let kept = std::fs::read_dir(house.layer().join("sources")).unwrap().map(|e| e.unwrap().path());
    let kept: Vec<_> = kept.filter(|path| path.metadata().unwrap().len() > 1000).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    std::fs::write(dir.join("tmp/home/go"), "").unwrap();
    crate::support::house::Run::of(child.wait_with_output().unwrap()).ok();
    let inode = kept[0].metadata().unwrap().ino().to_string();
    house.ovl(&["exec", "-o", "g/genome/1", "cat", "/cnt/g/genome/1/inode"]).ok().prints(&inode);
    assert_eq!(house.ovl(&["info", "g/genome/1", "--json"]).json()["squashfs"]["block_size"], 512 << 10);
    assert!(house.names("home/.local/share/ovl/work").is_empty());
    // A file of this machine is used where it is.
    let local = house.write("work/here.fa", "ACGT");
    house.recipe(
        "g/local/1",
        script(&format!("#SRC:file://{}", local.display()), "stat -c %i $src_dir/here.fa > $target_dir/i"),
    );
    house.ovl(&["build", "g/local/1"]).ok();
    house
        .ovl(&["exec", "-o", "g/local/1", "cat", "/cnt/g/local/1/i"])
        .ok()
        .prints(&local.metadata().unwrap().ino().to_string());
    house.settle();
}

#[test]
fn whatever_is_packed_is_unpacked() {
    let house = House::new();
    let install = r#"
        cd $tmp_dir; mkdir t; echo one > t/one
        tar -cf a.tar t; tar -czf b.tar.gz t; tar -cJf c.txz t; tar -cjf d.tar.bz2 t
        command -v zstd >/dev/null && { tar -cf - t | zstd -q > e.tar.zst; }
        echo two > f; gzip -k f; xz -k f; bzip2 -k f; cp f.gz g.bgz
        python3 -c 'import zipfile; zipfile.ZipFile("h.zip", "w").write("t/one")'
        tar -czf odd-name t
        for file in *.tar *.tar.* *.txz h.zip odd-name; do
            ovl_unpack $file out-$file; test "$(cat out-$file/t/one)" = one || { echo "$file"; exit 1; }
        done
        for file in f.gz f.xz f.bz2; do ovl_unpack $file out-$file; test "$(cat out-$file/f)" = two; done
        ovl_unpack g.bgz out-g; test "$(cat out-g/g)" = two
        if ovl_unpack f out-f 2>err; then exit 1; fi; grep -q 'no archive' err
        if ovl_unpack nowhere 2>err; then exit 1; fi; grep -q 'not there' err
        if (head -c 30 b.tar.gz > cut.tar.gz; ovl_unpack cut.tar.gz out-cut) 2>/dev/null; then exit 1; fi
        touch $target_dir/done"#;
    house.recipe("u/1.0", script("", install));
    house.ovl(&["build", "u/1.0"]).ok();
}
