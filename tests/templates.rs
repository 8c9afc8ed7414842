//! Templates: built by a filled-in name, by questions and by `#DEP:`; listed; and what is told when they do not fit.

use crate::support::house::{House, script};

const STAR: &str = "#!/usr/bin/env bash
#WHATIS:STAR index {star_version}, GENCODE {gencode_version}
#TARGET:grch38/star/{star_version}/gencode{gencode_version}-{read_length}
#PL:star_version:2.7.10a,2.7.11b
#PL:gencode_version:22-47
#PL:read_length:101|151|*
#DEP:star/{star_version}
#DEP:grch38/gtf-gencode/{gencode_version}
#ENV:STAR_INDEX=$app_root/index-{read_length}

install() {
    mkdir -p \"$target_dir\"
    { echo {star_version} {gencode_version} {read_length}; echo ${version} \"$app_name\" {{read_length}} {odd}; cat /cnt/star/{star_version}/star; } \\
        >\"$target_dir/index-{read_length}\"
}
";

const NAME: &str = "grch38/star/2.7.11b/gencode47-101";

/// A house with the template, and a template for each of its dependencies.
fn house() -> House {
    let house = House::new();
    house.recipe("grch38/star-gencode", STAR);
    let headers = "#TARGET:star/{v}\n#PL:v:2.7.11b,2.7.10a,2.7.2c";
    house.recipe("star", script(headers, "mkdir -p \"$target_dir\"; echo star {v} >\"$target_dir/star\""));
    let headers = "#TARGET:grch38/gtf-gencode/{v}\n#PL:v:22-47";
    house.recipe("grch38/gtf-gencode", script(headers, "mkdir -p \"$target_dir\"; echo {v} >\"$target_dir/gtf\""));
    house
}

#[test]
fn a_filled_in_name_is_built_with_its_values_and_its_dependencies() {
    let house = house();
    house.ovl(&["build", NAME]).ok().prints("grch38--star--2.7.11b--gencode47-101.sqf");
    assert_eq!(
        house.names("home/.local/share/ovl/images").iter().filter(|name| name.ends_with(".sqf")).collect::<Vec<_>>(),
        ["grch38--gtf-gencode--47.sqf", "grch38--star--2.7.11b--gencode47-101.sqf", "star--2.7.11b.sqf"]
    );
    let run = house.ovl(&["exec", "-o", NAME, "--", "bash", "-c", "cat \"$STAR_INDEX\""]).ok();
    assert_eq!(
        run.stdout,
        "2.7.11b 47 101\ngencode47-101 grch38/star/2.7.11b {{101}} {odd}\nstar 2.7.11b\n"
            .replace("{{101}}", "{{read_length}}")
    );
    house.ovl(&["info", NAME]).ok().prints("STAR index 2.7.11b, GENCODE 47").prints("star/2.7.11b");
    // The recipe inside is an ordinary one.
    let recipe = house.ovl(&["export", NAME]).ok().stdout;
    assert!(recipe.contains("# with gencode_version = 47\n") && recipe.contains("#DEP:star/2.7.11b\n"), "{recipe}");
    let file = house.write("work/exported", &recipe);
    house.ovl(&["check", file.to_str().unwrap()]).ok();
    // Nothing has changed; nor has it when the list grows. Another value is another overlay, another body a change.
    house.ovl(&["build", NAME]).ok().says("up to date");
    house.recipe(
        "grch38/star-gencode",
        STAR.replace("2.7.10a,2.7.11b", "2.7.10a,2.7.11b,2.7.11c").replace("22-47", "22-49"),
    );
    house.ovl(&["build", NAME]).ok().says("up to date");
    house.recipe("grch38/star-gencode", STAR.replace("echo ${version}", "echo new"));
    house.ovl(&["build", NAME]).ok().says("stale");
    house
        .ovl(&["build", "--dry-run", "grch38=star=2.7.11b=gencode46-7x"])
        .ok()
        .prints("gtf-gencode/46")
        .prints("gencode46-7x");
    house.settle();
}

#[test]
fn a_template_given_as_a_file_is_filled_in_as_well() {
    let house = House::new();
    let file = house.write(
        "work/tool",
        script("#TARGET:tool/{v}\n#PL:v:1,2", "mkdir -p \"$target_dir\"; echo {v} >\"$target_dir/v\""),
    );
    let file = file.to_str().unwrap();
    house.ovl(&["build", "tool/2", "-f", file]).ok();
    assert_eq!(house.ovl(&["exec", "-o", "tool/2", "--", "cat", "/cnt/tool/2/v"]).ok().stdout, "2\n");
    house
        .ovl(&["build", "other/2", "-f", file])
        .code(4)
        .says("is a template of tool/{v}, which other/2 does not fill in");
    house.ovl(&["build", "tool/3", "-f", file]).code(4).says("'3' is no v of tool/{v} (1,2); the nearest is 2");
    house.ovl(&["check", file]).ok().prints("OK: ");
    house.settle();
}

#[test]
fn a_template_asks_for_each_value_and_prefers_what_is_installed() {
    let house = house();
    let dry = |more: &[&str], stdin: &str| {
        house.ovl_fed(&[&["build", "--dry-run", "grch38/star-gencode"], more].concat(), stdin)
    };
    dry(&["--answer", "2.7.10a", "--answer", "30", "--answer", "75"], "")
        .ok()
        .prints("grch38/star/2.7.10a/gencode30-75 ");
    dry(&["--answer", "2=30"], "\n\n").ok().prints("grch38/star/2.7.11b/gencode30-101 ");
    let answers = house.write("work/answers", "2.7.10a\n22\n\n");
    dry(&["--answers-file", answers.to_str().unwrap()], "").ok().prints("grch38/star/2.7.10a/gencode22-101 ");
    house
        .ovl_fed(&["build", "--dry-run", "grch38/star/{star_version}/gencode{gencode_version}-{read_length}"], "\n\n\n")
        .ok()
        .prints(&format!("{NAME} "));
    house.ovl(&["build", "star/2.7.10a", "grch38/gtf-gencode/30", "star/2.7.2c"]).ok();
    dry(&[], "\n\n\n").ok().prints("grch38/star/2.7.10a/gencode30-101 ");
    dry(&["--answer", "2.7.11b"], "\n\n").ok().prints("grch38/star/2.7.11b/gencode30-101 ");
    // Nobody there, or with a value that is none.
    house
        .ovl(&["build", "grch38/star-gencode"])
        .code(4)
        .says("grch38/star-gencode is a template, and nobody says with which values\n")
        .says("  star_version: 2.7.11b, 2.7.10a\n  gencode_version: 22-47\n  read_length: 101, 151, or any other\n")
        .says(&format!("hint: name them, as in: ovl build {NAME}\n"));
    dry(&["--answer", "2.7.11b", "--answer", "48"], "")
        .code(4)
        .says("'48' is no gencode_version (22-47); the nearest is 47");
    dry(&["--answer", "1=2.7.11b", "--answer", "3=a/b"], "\n").code(4).says("'a/b' is no read_length");
    // On a terminal it asks again.
    let run = house.on_terminal("$OVL build --dry-run grch38/star-gencode", &["9\n", "2.7.11b\n", "\n", "75\n"]).ok();
    assert!(run.stdout.contains("star_version [2.7.11b, 2.7.10a], default 2.7.10a"), "{run:#?}");
    assert!(run.stdout.contains("'9' is no star_version") && run.stdout.contains("gencode30-75"), "{run:#?}");
    let run = house.on_terminal("$OVL build --dry-run star", &["\u{3}"]);
    assert_eq!(run.code, 130, "{run:#?}");
    house.settle();
}

#[test]
fn avail_shows_templates_as_one_line_or_name_by_name() {
    let house = house();
    house.recipe("any", script("#TARGET:any/{v}\n#PL:v:*", ":"));
    house.recipe("grch38/plain/1", script("", ":"));
    house.ovl(&["build", "star/2.7.10a"]).ok();
    let lines = |args: &[&str]| -> Vec<String> {
        house.ovl(&[&["avail"], args].concat()).ok().stdout.lines().map(str::to_owned).collect()
    };
    assert_eq!(
        lines(&["-r", "^(any|star|grch38)/"]),
        [
            "grch38/plain/1",
            "any/{v}                                                              template, any value",
            "grch38/gtf-gencode/{v}                                               template, 26 names",
            "grch38/star/{star_version}/gencode{gencode_version}-{read_length}    template, 104 names and others",
            "star/{v}                                                             template, 3 names, 1 installed",
        ]
        .map(|line| line.replace("    template", "  template"))
    );
    assert_eq!(
        lines(&["star/2.7.11b"]),
        [
            "grch38/star/{star_version}/gencode{gencode_version}-{read_length}  template, 52 of 104 names and others",
            "star/{v}                                                           template, 1 of 3 names",
        ]
    );
    assert_eq!(lines(&["-e", "^star/", "-r"]), ["star/2.7.11b", "star/2.7.10a  installed", "star/2.7.2c"]);
    let expanded = lines(&["-ew", "gencode22-101"]);
    assert_eq!(
        expanded,
        [
            "grch38/star/2.7.11b/gencode22-101    STAR index 2.7.11b, GENCODE 22",
            "grch38/star/2.7.10a/gencode22-101    STAR index 2.7.10a, GENCODE 22",
        ]
    );
    let json = house.ovl(&["avail", "--json", "star/{v}"]).ok().json();
    assert_eq!(json[0]["name"], "star/{v}");
    assert_eq!(json[0]["template"]["names"], serde_json::json!(["star/2.7.11b", "star/2.7.10a", "star/2.7.2c"]));
    assert_eq!((&json[0]["template"]["count"], &json[0]["template"]["path"]), (&3.into(), &"star".into()));
    assert_eq!(json[0]["template"]["placeholders"][0]["open"], false);
    // The user's template hides the site's of the same path.
    let site = house.path("site").to_string_lossy().into_owned();
    house.write("site/build-scripts/star", script("#TARGET:star/{v}\n#PL:v:1-9", ":"));
    house.ovl_with(&[("OVL_LAYERS_SITE", &site)], &["avail", "star/{v}"]).ok().prints("template, 3 names");
}

#[test]
fn what_does_not_fit_is_told_by_name() {
    let house = house();
    house
        .ovl(&["build", "grch38/star/2.7.11b/gencode48-101"])
        .code(4)
        .says("'48' is no gencode_version of")
        .says("the nearest is 47")
        .says("hint: see its names with: ovl avail --expand 'grch38/star/");
    house.ovl(&["build", "--no-deps", "{x}"]).code(4).says("there is no template {x}");
    // A dependency that is a template's own path.
    house.recipe("uses/1", script("#DEP:grch38/star-gencode", ":"));
    house
        .ovl(&["build", "uses/1"])
        .code(4)
        .says("is a template of grch38/star/")
        .says(&format!("as in: ovl build {NAME}"));
    house.recipe("loose", script("#TARGET:loose/{a}-{b}\n#PL:a:*\n#PL:b:*", ":"));
    house
        .ovl(&["build", "loose/1-2-3"])
        .code(4)
        .says("loose/1-2-3 is ambiguous in loose/{a}-{b}: a=1, b=2-3, or a=1-2, b=3");
    house.recipe("twin", script("#TARGET:star/{w}\n#PL:w:2.7.2c", ":"));
    house
        .ovl(&["build", "--dry-run", "star/2.7.2c"])
        .code(4)
        .says("star/2.7.2c fits two templates: ")
        .says("star and ")
        .says("twin");
    house.ovl(&["build", "--dry-run", "star/2.7.11b"]).ok();
    // A recipe of exactly this name wins, also one of a layer below over a template that lacks the value.
    house.recipe(NAME, script("", ":"));
    house
        .ovl(&["build", "--dry-run", NAME])
        .ok()
        .prints("would build grch38/star/2.7.11b/gencode47-101")
        .keeps_quiet_about("gtf");
    std::fs::remove_file(house.layer().join("build-scripts").join(NAME)).unwrap();
    let site = house.path("site").to_string_lossy().into_owned();
    house.write("site/build-scripts/grch38/gtf-gencode/9", script("", ":"));
    let vars = [("OVL_LAYERS_SITE", site.as_str())];
    house.ovl_with(&vars, &["build", "--dry-run", "grch38/gtf-gencode/9"]).ok();
    house.ovl_with(&[], &["build", "--dry-run", "grch38/gtf-gencode/9"]).code(4).says("'9' is no v");
    // Broken ones say why where they are asked for, and hide nothing.
    house.recipe("broken/1", script("#TARGET:broken/{v}-{w}\n#PL:v:1", ":"));
    house.ovl(&["build", "broken/1"]).code(4).says("error[OVL046]: {w} is declared by no #PL:");
    house.ovl(&["check", "broken/1"]).code(4).prints("OVL046");
    house.ovl(&["check", "star", NAME, "grch38/star-gencode"]).ok();
}

#[test]
fn check_lists_what_is_missing_and_installs_it() {
    let house = house();
    let job = house.write(
        "work/job.sh",
        "#!/bin/bash\n#WHATIS:a job\n#DEP:star/2.7.11b>=2.7.2c\n#DEP:grch38/star/2.7.10a/gencode30-75\necho\n",
    );
    let job = job.to_str().unwrap();
    house.ovl(&["build", "star/2.7.2c"]).ok();
    let lines = |text: &str| -> Vec<String> {
        let words = |line: &str| {
            line.split("  ").filter(|word| !word.is_empty()).take(2).map(str::trim).collect::<Vec<_>>().join(": ")
        };
        text.lines().map(words).collect()
    };
    // As a recipe it has no install(); what it needs is listed all the same.
    let run = house.ovl(&["check", job]).code(4).prints("OVL007");
    let listed = [
        "star/2.7.11b>=2.7.2c: installed: 2.7.2c",
        "star/2.7.10a: missing, can be built",
        "grch38/gtf-gencode/30: missing, can be built",
        "grch38/star/2.7.10a/gencode30-75: missing, can be built",
    ];
    assert!(lines(&run.stdout).ends_with(&listed.map(str::to_owned)), "{run:#?}");
    house.ovl(&["check", "-a", job]).ok().prints("grch38--star--2.7.10a--gencode30-75.sqf");
    let run = house.ovl(&["check", "-a", job]).ok().prints("OK: ");
    assert_eq!(run.stdout.matches(".sqf").count(), 2, "all is there, and nothing is built: {run:#?}");
    // By name; what nobody makes; what stands beside in a directory that is no layer.
    house.recipe("needs/1", script("#DEP:grch38/gtf-gencode/31", ":"));
    house
        .ovl(&["check", "needs/1"])
        .ok()
        .prints("missing, can be built")
        .says("hint: build what is missing with: ovl check -a needs/1");
    house.recipe("lost/1", script("#DEP:nobody/1\n#BUILDDEP:star/2.7.10a", ":"));
    for args in [&["check", "lost/1"][..], &["check", "-a", "lost/1"]] {
        house
            .ovl(args)
            .code(4)
            .prints("nobody/1")
            .prints("missing, no recipe")
            .says("error: missing, and no recipe makes it: nobody/1");
    }
    house.write("work/repo/a/1", script("#DEP:b/2\n#DEP:c/3", ":"));
    house.write("work/repo/b/2.sh", script("", ":"));
    house.write("work/repo/c", script("#TARGET:c/{v}\n#PL:v:1-3", ":"));
    house.ovl(&["check", "repo"]).ok().prints("missing, in no layer").prints("OK: repo/c");
    house.ovl(&["check", "-a", "repo"]).code(4).says("its recipe is in no layer: b/2, c/3");
    let findings = house.ovl(&["check", "--json", "repo"]).ok().json();
    assert_eq!(findings, serde_json::json!([]));
    house.settle();
}
