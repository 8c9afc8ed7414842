//! Tests of reading scripts.

use super::*;

fn shown(text: &str) -> Result<Script, String> {
    read("s", text.as_bytes()).map_err(|wrong| wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn wanted(overlays: &[Overlay]) -> Vec<String> {
    overlays.iter().map(|one| one.wanted.to_string()).collect()
}

#[test]
fn a_script_with_everything() {
    let text = "#!/bin/bash -l\n#SBATCH -c 2 --time=10\n#DEP:samtools/1.22\n#DEP:star/2.7.11b>=2.7.2c # newest\n\
                #DEP:./env.img\n\n# prose\n#OVL:-o base/1 --env 'A=b c'\n#CNT -B /data:/mnt\n#OVL:1\nset -e\n\
                #DEP:late/1\n#OVL:--late\nmodule load gcc/12.2 python \"$X\"\nif true; then ml load R/4.3; fi\nml cmake/3\nml purge\n";
    let script = shown(text).unwrap();
    assert_eq!(script.interpreter, ["/bin/bash", "-l"]);
    assert_eq!(wanted(&script.deps), ["samtools/1.22", "star/2.7.11b>=2.7.2c", "./env.img"]);
    assert_eq!(wanted(&script.modules), ["gcc/12.2", "python", "R/4.3", "cmake/3"]);
    assert_eq!(script.modules[1].wanted, Wanted::Newest("python".into()));
    let lines: Vec<String> = script
        .options
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.words.iter().map(|(_, word)| word.as_str()).collect();
            format!("{} {} {}", line.loc, line.marker, words.join("|"))
        })
        .collect();
    assert_eq!(lines, ["s:8:1 OVL -o|base/1|--env|A=b c", "s:9:1 CNT -B|/data:/mnt"]);
    assert_eq!(script.options[0].words[3].0.to_string(), "s:8:22");
    assert_eq!(script.directives.len(), 1);
    assert_eq!(script.launches, None);
}

#[test]
fn what_is_wrong_is_told_all_at_once_with_its_place() {
    let told = shown("#!/bin/sh\n#DEP:one\n#OVL:\n#OVL:--env 'A\n#SBATCH: -c 1\n").unwrap_err();
    assert!(told.contains("s:2:6: #DEP: ") && told.contains("s:3:1: #OVL: says nothing"), "{told}");
    assert!(told.contains("s:4:12: the quote opened here is not closed"), "{told}");
    assert!(told.contains("s:5:1: #SBATCH is followed by a blank"), "{told}");
    assert!(shown("#!/bin/sh\r\necho\r\n").unwrap_err().starts_with("s:1:10: 2 lines end in CRLF"));
    assert!(shown("").unwrap_err().contains("the script is empty"));
    assert!(read("s", b"\x7fELF\x02\x01").unwrap_err()[0].why.contains("a program"));
    assert!(read("s", b"\xff\xfe").is_err() && read("s", b"a\0b").is_err());
    let odd = shown("#DEP samtools/1.22\necho\n").unwrap().odd;
    assert!(odd[0].message.contains("#DEP has no colon"), "{odd:?}");
}

#[test]
fn interpreters_and_launchers() {
    for (text, interpreter, launches) in [
        ("echo\n", &[][..], None),
        ("#!\necho\n", &[], None),
        ("#! /usr/bin/env  python3 -u\nimport os # srun\n", &["/usr/bin/env", "python3 -u"], None),
        ("#!/usr/bin/env bash\nsrun -n 2 hostname\n", &["/usr/bin/env", "bash"], Some("s:2:1 srun")),
        ("f() { /opt/bin/mpirun x; }\n# mpiexec\necho mpiexec\n", &[], Some("s:1:7 mpirun")),
    ] {
        let script = shown(text).unwrap();
        assert_eq!(script.interpreter, interpreter, "{text}");
        assert_eq!(script.launches.map(|(loc, name)| format!("{loc} {name}")).as_deref(), launches, "{text}");
    }
    for line in [
        "exec mpirun x",
        "time srun x",
        "time -p /opt/bin/mpirun x",
        "env -i -u A X=1 mpiexec x",
        "X=1 nohup nice -n 5 mpirun x &",
        "taskset -c 0-3 mpirun x",
        "numactl -m 0 --cpunodebind=0 mpirun x",
        "stdbuf -oL command srun x",
        "timeout -k 5 10m exec -a name srun x",
        "taskset 0xf $options mpirun x",
    ] {
        assert!(shown(&format!("{line}\n")).unwrap().launches.is_some(), "{line}");
    }
    for line in ["exec echo srun", "time grep mpirun file", "env | grep srun", "nice -n srun", "export X=srun"] {
        assert_eq!(shown(&format!("{line}\n")).unwrap().launches, None, "{line}");
    }
}
