//! Templates: values, names forth and back, filling, and what is wrong with odd ones.

use proptest::prelude::*;

use super::*;
use crate::recipe::{parse, template_of};

const STAR: &str = "#!/bin/bash
#WHATIS:STAR index {star_version} of GENCODE {gencode_version}, reads of {read_length}
#TARGET:grch38/star/{star_version}/gencode{gencode_version}-{read_length}
#PL:star_version:2.7.2c, 2.7.11b,2.7.11a
#PL:gencode_version:22-47
#PL:read_length:101|151|75|*
#DEP:star/{star_version}
#DEP:grch38/gtf-gencode/{gencode_version}
install() {
    echo {star_version} ${star_version} \"${x:-{star_version}}\" {{star_version}} {other} >\"$target_dir/{read_length}\"
}
";

fn star() -> Template {
    template_of("star", STAR.as_bytes()).unwrap()
}

fn of(target: &str, lists: &[&str]) -> Template {
    let lists: String = lists.iter().map(|list| format!("#PL:{list}\n")).collect();
    let text = format!("#TARGET:{target}\n{lists}install() {{ :; }}\n");
    template_of("t", text.as_bytes()).unwrap_or_else(|| panic!("{:#?}", parse("t", text.as_bytes()).findings))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn values_stand_newest_first_or_as_the_author_wrote_them() {
    let star = star();
    assert_eq!(star.placeholders[0].listed, ["2.7.11b", "2.7.11a", "2.7.2c"]);
    assert_eq!((star.placeholders[1].listed.len(), star.placeholders[1].listed[0].as_str()), (26, "47"));
    assert_eq!(star.placeholders[2].listed, ["101", "151", "75"]);
    assert_eq!(star.placeholders.iter().map(|p| p.open).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!((star.count(), star.is_open()), (3 * 26 * 3, true));
    let odd = of("a/{v}", &["v:2024-A,3,1-3,01-03,3"]);
    assert_eq!(odd.placeholders[0].listed, ["2024-A", "3", "03", "2", "02", "1", "01"]);
    assert_eq!(of("a/{v}", &["v:*"]).count(), 0);
}

#[test]
fn a_name_leads_back_to_its_values() {
    let star = star();
    let binding = star.matches(&name("grch38/star/2.7.11b/gencode47-101")).unwrap().unwrap();
    assert_eq!(binding.to_string(), "star_version=2.7.11b, gencode_version=47, read_length=101");
    let open = star.matches(&name("grch38--star--2.7.2c--gencode22-7x-y")).unwrap().unwrap();
    assert_eq!(open.get("read_length"), Some("7x-y"));
    for other in ["grch38/star/2.7.11b", "grch38/star/2.7.11b/gencode47", "grch37/star/2.7.11b/gencode47-101"] {
        assert_eq!(star.matches(&name(other)), Ok(None), "{other}");
    }
    // One placeholder, two places.
    let twice = of("a/{v}/data{v}", &["v:1,2,*"]);
    assert_eq!(twice.matches(&name("a/2/data2")).unwrap().unwrap().get("v"), Some("2"));
    assert_eq!(twice.matches(&name("a/2/data1")), Ok(None));
}

#[test]
fn values_outside_a_closed_list_are_told_with_the_nearest() {
    let star = star();
    let told = |text: &str| star.matches(&name(text)).unwrap_err().to_string();
    assert_eq!(
        told("grch38/star/2.7.11b/gencode48-101"),
        "grch38/star/2.7.11b/gencode48-101: '48' is no gencode_version of \
         grch38/star/{star_version}/gencode{gencode_version}-{read_length} (22-47); the nearest is 47"
    );
    assert!(told("grch38/star/2.7.11c/gencode47-101").contains("'2.7.11c' is no star_version"));
    assert!(told("grch38/star/2.7.11c/gencode47-101").ends_with("; the nearest is 2.7.11b"));
    // Every name would have its shape.
    assert_eq!(of("{a}/{b}", &["a:x|y", "b:1-3"]).matches(&name("z/1")), Ok(None));
}

#[test]
fn a_name_with_two_meanings_is_refused_with_both() {
    let loose = of("a/{x}-{y}", &["x:*", "y:*"]);
    assert_eq!(
        loose.matches(&name("a/1-2-3")).unwrap_err().to_string(),
        "a/1-2-3 is ambiguous in a/{x}-{y}: x=1, y=2-3, or x=1-2, y=3"
    );
    assert!(loose.matches(&name("a/1-2")).unwrap().is_some());
    let closed = of("a/{x}{y}", &["x:1,11", "y:1,11"]);
    assert!(closed.matches(&name("a/111")).is_err() && closed.matches(&name("a/11")).unwrap().is_some());
}

#[test]
fn a_pattern_made_to_take_long_does_not() {
    let names: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
    let target: String = names.iter().map(|name| format!("{{{name}}}")).collect();
    let lists: Vec<String> = names.iter().map(|name| format!("{name}:*")).collect();
    let lists: Vec<&str> = lists.iter().map(String::as_str).collect();
    let long = name(&format!("a/{}", "1".repeat(120)));
    assert_eq!(of(&format!("a/{target}x"), &lists).matches(&long), Ok(None));
    assert!(of(&format!("a/{target}"), &lists).matches(&long).is_err());
    let _ = of(&format!("a/{target}{{t0}}{{t1}}"), &lists).matches(&name(&format!("a/{}2", "1".repeat(120))));
}

#[test]
fn filling_replaces_declared_tokens_and_nothing_else() {
    let star = star();
    let binding = star.matches(&name("grch38/star/2.7.11a/gencode30-x")).unwrap().unwrap();
    let filled = String::from_utf8(star.fill(STAR.as_bytes(), &binding)).unwrap();
    assert_eq!(
        filled,
        "#!/bin/bash
#WHATIS:STAR index 2.7.11a of GENCODE 30, reads of x
# from the template grch38/star/{star_version}/gencode{gencode_version}-{read_length}
# with star_version = 2.7.11a
# with gencode_version = 30
# with read_length = x
#DEP:star/2.7.11a
#DEP:grch38/gtf-gencode/30
install() {
    echo 2.7.11a ${star_version} \"${x:-{star_version}}\" {{star_version}} {other} >\"$target_dir/x\"
}
"
    );
    let (spec, findings) = parse("r", filled.as_bytes()).ready().unwrap();
    assert_eq!((spec.deps.len(), spec.template, findings), (2, None, Vec::new()));
    // What is not closed in its line hides nothing; headers are only those at the top; line ends stay.
    let one = of("a/{v}", &["v:1"]);
    let binding = one.sample();
    assert_eq!(binding.fill("${ {v} $v{v}${v} {v"), "${ 1 $v1${v} {v");
    assert_eq!(one.fill(b"x={v}\r\n#PL:v:1\n", &binding), b"x=1\r\n#PL:v:1\n");
    assert_eq!(
        one.fill(b"Bootstrap: docker\nFrom: x:{v}\n%post\n  a {v} ${v}", &binding),
        b"Bootstrap: docker\nFrom: x:1\n%post\n  a 1 ${v}"
    );
    assert_eq!(one.fill(b"\xff{v}", &binding), b"\xff{v}");
}

/// Findings as `line:col id`.
fn ids(text: &str) -> Vec<String> {
    let findings = parse("r", text.as_bytes()).findings;
    findings.iter().map(|f| format!("{}:{} {}", f.loc.line, f.loc.col, f.rule.id())).collect()
}

#[test]
fn each_rule_speaks_with_its_place() {
    let with = |headers: &str| ids(&format!("#WHATIS:x\n{headers}\ninstall() {{ :; }}\n"));
    assert_eq!(with("#TARGET:a/{v}\n#PL:v:1,2\n#DEP:b/{v}>={v}"), Vec::<String>::new());
    assert_eq!(with("#PL:v:1,2"), ["2:1 OVL045"]);
    assert_eq!(with("#TARGET:a/1"), ["2:1 OVL045"]);
    assert_eq!(with("#TARGET: a/{v}-{w}\n#PL:v:1"), ["2:16 OVL046"]);
    assert_eq!(with("#TARGET:a/{v}\n#PL:v:1\n#PL:w:1"), ["4:1 OVL047"]);
    assert_eq!(with("#TARGET:a/{v}\n#PL:v:1\n#PL:v:2"), ["4:1 OVL048"]);
    assert_eq!(with("#TARGET:a/{v}\n#PL:v:1\n#TARGET:b/{v}"), ["4:1 OVL015"]);
    // Only what is wrong is told: not the token whose #PL: is wrong, nor the header with the token.
    for bad in
        ["v:1-20001", "v:1-9000,10001-19000", "v:9-1", "v:1,,2", "v", "v:1,2|3", "v:a/b", "v:1-99999999999999999999"]
    {
        assert_eq!(with(&format!("#TARGET:a/{{v}}\n#PL:{bad}\n#DEP:b/{{v}}")), ["3:5 OVL014"], "{bad}");
    }
    assert_eq!(with("#TARGET:a/{v\n#PL:v:1"), ["2:11 OVL014", "3:1 OVL047"]);
    assert_eq!(with("#TARGET:a {v}\n#PL:v:1"), ["2:9 OVL014"]);
    assert_eq!(with("#TARGET:{v}\n#PL:v:1"), ["2:9 OVL014"]);
    assert_eq!(with("#TARGET:a/b/c/d/{v}\n#PL:v:1"), ["2:9 OVL014"]);
    // Places are those of the template, though its sample is longer.
    assert_eq!(with("#TARGET:a/{v}\n#PL:v:123456789\n#DEP:{v}{v}").concat(), "4:6 OVL014");
    assert_eq!(ids("#TARGET:a/{v}\n#PL:v:1\ninstall() { x {v} {v}; sudo x; }\n"), ["1:1 OVL040", "3:24 OVL051"]);
}

#[test]
fn a_template_is_judged_by_a_recipe_it_makes() {
    let parsed = parse("star", STAR.as_bytes());
    assert_eq!(parsed.findings, []);
    let spec = parsed.spec.unwrap();
    assert_eq!(spec.deps[0].value.to_string(), "star/2.7.11b");
    assert_eq!(
        spec.template.as_ref().map(|t| t.deps.clone()),
        Some(vec!["star/{star_version}".into(), "grch38/gtf-gencode/{gencode_version}".into()])
    );
    assert_eq!(spec.unsupported(), []);
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{1,2}", "[ab1]{1,2}", "[0-9]\\.[0-9][ab]?", "1[-.][1a]"]
}

fn template() -> impl Strategy<Value = (Template, Vec<Vec<String>>)> {
    let lists = prop::collection::vec(prop::collection::vec(value(), 1..4), 1..4);
    let glue = prop::collection::vec(prop_oneof![Just(""), Just("-"), Just("/"), Just("x"), Just("_1")], 4);
    (lists, glue, any::<u8>()).prop_filter_map("no template", |(lists, glue, open)| {
        let mut target = format!("base/{}", glue[3].trim_start_matches('/'));
        let mut headers = String::new();
        for (number, list) in lists.iter().enumerate() {
            let stars = if open >> number & 1 == 1 { "|*" } else { "" };
            headers += &format!("#PL:p{number}:{}{stars}\n", list.join("|"));
            target += &format!("{{p{number}}}{}", if number + 1 < lists.len() { glue[number] } else { "" });
        }
        let text = format!("#TARGET:{target}\n{headers}install() {{ :; }}\n");
        Some((template_of("t", text.as_bytes())?, lists))
    })
}

proptest! {
    #[test]
    fn every_name_of_a_template_leads_back_or_is_told_to_be_ambiguous((template, lists) in template()) {
        let all: Vec<Binding> = template.expand().collect();
        prop_assert_eq!(all.len() as u64, template.count());
        prop_assert!(template.count() <= lists.iter().map(|list| list.len() as u64).product());
        for binding in all {
            let Ok(name) = template.name(&binding) else { continue };
            match template.matches(&name) {
                Ok(Some(back)) => prop_assert_eq!(back, binding),
                Ok(None) => prop_assert!(false, "{} is lost in {}", name, template.pattern),
                Err(told) => {
                    let Mismatch::Ambiguous { first, second, .. } = *told else { panic!("{told}") };
                    prop_assert_ne!(&first, &second);
                    prop_assert_eq!(template.name(&first).unwrap(), name.clone());
                    prop_assert_eq!(template.name(&second).unwrap(), name);
                }
            }
        }
    }

    #[test]
    fn no_text_makes_reading_and_filling_fail(target in ".{0,40}", list in ".{0,30}", body in ".{0,80}") {
        let text = format!("#TARGET:{target}\n#PL:v:{list}\n{body}");
        let _ = parse("r", text.as_bytes());
        if let Some(template) = template_of("r", text.as_bytes()) {
            let _ = template.fill(text.as_bytes(), &template.sample());
        }
    }

    #[test]
    fn any_pattern_and_body_over_one_placeholder_are_read(target in "[a{}v/1-]{0,20}", body in "[a{}v$\n#:é]{0,60}") {
        let text = format!("#TARGET:a/{target}{{v}}\n#PL:v:1,22\n{body}");
        for finding in parse("r", text.as_bytes()).findings {
            let line = text.split('\n').nth(finding.loc.line - 1).unwrap_or("");
            prop_assert!(finding.loc.col <= line.chars().count() + 1, "{}", finding);
        }
    }
}
