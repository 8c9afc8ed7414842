//! Credentials: kept for the user alone, honoured where others keep them, shown nowhere, sent nowhere else.

use std::os::unix::fs::PermissionsExt;

use super::house;
use crate::support::house::{House, Run};
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::server::{Reply, Web};

/// Nothing secret in what was said.
#[track_caller]
fn discreet(run: Run) -> Run {
    for secret in [PASSWORD, "dGVzdGVyOnMzY3JldC1wdw=="] {
        assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{run:#?}");
    }
    run
}

#[test]
fn a_locked_registry_opens_after_login_and_closes_after_logout() {
    let house = house("foo/1.0", 1000);
    let Some(registry) = Registry::start(&house.make("reg"), true) else { return };
    let (host, reference) = (registry.host(), format!("{}/foo:1.0", registry.host()));
    let file = house.path("home/.config/containers/auth.json");
    house.ovl(&["push", "foo/1.0", &reference]).code(1).says("asks for credentials").says(&format!("ovl login {host}"));
    house.ovl(&["login", &host, "-u", USER]).code(4).says("no terminal");
    house.ovl_fed(&["login", &host, "-u", USER, "--password-stdin"], "wrong\n").code(1).says("does not take");
    assert!(!file.exists(), "a wrong password is kept");
    let login = house.ovl_fed(&["-v", "login", &host, "-u", USER, "--password-stdin"], &format!("{PASSWORD}\n"));
    discreet(login.ok()).says("logged in");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    discreet(house.ovl(&["-vv", "push", "foo/1.0", &reference]).ok());
    let copy = house.path("copy");
    let dir = format!("dir:{}", copy.display());
    let authfile = file.to_string_lossy();
    // Podman's tools read it as well.
    super::run(
        "skopeo",
        &["copy", "--authfile", &authfile, "--src-tls-verify=false", &format!("docker://{reference}"), &dir],
    )
    .ok();
    super::wipe(&house, "foo/1.0");
    discreet(house.ovl(&["-vv", "pull", &reference]).ok());
    house.ovl(&["logout", &host]).ok().says("logged out");
    house.ovl(&["pull", &reference]).code(1).says("asks for credentials");
    house.ovl(&["logout", &host]).code(4);
    // The other way round, and docker's file; a longer key counts more than a shorter one.
    let auth = |password: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"))
    };
    let text = format!(
        r#"{{"auths":{{"{host}":{{"auth":"{}"}},"{host}/foo":{{"auth":"{}"}}}}}}"#,
        auth("wrong"),
        auth(PASSWORD)
    );
    house.write("home/.docker/config.json", text);
    discreet(house.ovl(&["pull", &reference]).ok());
    house.ovl(&["push", "foo/1.0", &format!("{host}/bar:1")]).code(1).says("does not take the credentials");
}

#[test]
fn a_password_is_asked_for_on_the_terminal_and_not_shown() {
    let house = House::new();
    let Some(registry) = Registry::start(&house.make("reg"), true) else { return };
    let line = format!("$OVL login {}", registry.host());
    let run = house.on_terminal(&line, &[&format!("{USER}\n"), &format!("{PASSWORD}\n")]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stdout.contains("logged in") && !run.stdout.contains(PASSWORD), "{run:#?}");
}

#[test]
fn helpers_are_asked_and_told() {
    let house = house("foo/1.0", 1000);
    let Some(registry) = Registry::start(&house.make("reg"), true) else { return };
    let (host, reference) = (registry.host(), format!("{}/foo:1.0", registry.host()));
    let helper = house.write(
        "bin/docker-credential-fake",
        "#!/bin/sh\nstore=$HOME/vault\necho \"$1\" >> $HOME/asked\ncase $1 in\n\
         store) cat > $store ;;\n\
         get) read server || :; echo \"$server\" >> $HOME/asked; [ -e $store ] && exec cat $store\n\
           echo 'credentials not found in native keychain'; exit 1 ;;\n\
         erase) rm $store ;;\nesac\n",
    );
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    house.put_on_path(&house.path("bin"));
    house.write("home/.docker/config.json", format!(r#"{{"credHelpers":{{"{host}":"fake"}}}}"#));
    house.ovl(&["push", "foo/1.0", &reference]).code(1).says("asks for credentials");
    let login = ["login", &host, "-u", USER, "--password-stdin"];
    discreet(house.ovl_fed(&login, PASSWORD).ok()).says("docker-credential-fake");
    assert!(!house.path("home/.config/containers/auth.json").exists());
    let kept = std::fs::read_to_string(house.path("home/vault")).unwrap();
    assert!(kept.contains(PASSWORD) && kept.contains(&host), "{kept}");
    discreet(house.ovl(&["-vv", "push", "foo/1.0", &reference]).ok());
    house.ovl(&["logout", &host]).ok();
    assert!(!house.path("home/vault").exists());
    house.write("home/vault", "this is no JSON s3cret-pw");
    discreet(house.ovl(&["push", "foo/1.0", &reference]).code(1)).says("its answer is no JSON");
    house.write("home/.docker/config.json", format!(r#"{{"credHelpers":{{"{host}":"../../bin/fake"}}}}"#));
    house.ovl(&["push", "foo/1.0", &reference]).code(1).says("no name for a helper");
}

#[test]
fn credentials_go_to_the_registry_and_to_nobody_it_sends_us_to() {
    let house = house("foo/1.0", 1000);
    let image = std::fs::read(house.image("foo/1.0")).unwrap();
    let digest = super::sum(&house.image("foo/1.0"));
    let storage = Web::of_files(vec![("blob".into(), image.clone())]);
    let config = b"{}".to_vec();
    let of = |bytes: &[u8]| {
        let file = house.write("some", bytes);
        super::sum(&file)
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{}","size":2}},"layers":[{{"mediaType":"application/vnd.ovl.overlay.v1.squashfs","digest":"{digest}","size":{}}}]}}"#,
        of(&config),
        image.len()
    );
    let target = format!("{}?signature=s3cret", storage.url("blob"));
    let registry = Web::start(move |asked| {
        if !asked.headers.contains_key("authorization") {
            return Reply::new(401, "{}").with("WWW-Authenticate", "Basic realm=\"here\"");
        }
        match asked.path.split('/').nth(3).unwrap_or_default() {
            "manifests" => Reply::new(200, manifest.as_bytes()),
            "blobs" if asked.path.contains(&digest) => Reply::new(307, "").with("Location", target.clone()),
            _ => Reply::new(200, config.clone()),
        }
    });
    let host = format!("127.0.0.1:{}", registry.port);
    let login = ["login", &host, "-u", USER, "--password-stdin"];
    house.ovl_fed(&login, PASSWORD).ok();
    super::wipe(&house, "foo/1.0");
    house.ovl(&["pull", &format!("{host}/foo:1.0")]).ok();
    assert!(registry.asked().iter().any(|asked| asked.headers.contains_key("authorization")));
    assert!(storage.count() > 0);
    for asked in storage.asked() {
        assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
    }
}

#[test]
fn tokens_are_fetched_with_the_credentials_and_used_without_them() {
    let house = House::new();
    let tokens = Web::start(|asked| {
        let known = asked.headers.get("authorization").is_some_and(|value| value.starts_with("Basic dGVzdGVyOnMz"));
        if known { Reply::new(200, r#"{"token":"the-token"}"#) } else { Reply::new(401, "{}") }
    });
    let realm = tokens.url("token");
    let registry = Web::start(move |asked| match asked.headers.get("authorization").map(String::as_str) {
        Some("Bearer the-token") => Reply::new(404, "{}"),
        _ => Reply::new(401, "{}")
            .with("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"here\",scope=\"repository:x:pull\"")),
    });
    let host = format!("127.0.0.1:{}", registry.port);
    let reference = format!("{host}/group/foo:1");
    house.ovl(&["pull", &reference]).code(1).says("asks for credentials");
    let text = format!(r#"{{"auths":{{"{host}":{{"username":"{USER}","password":"{PASSWORD}"}}}}}}"#);
    house.write("home/.docker/config.json", text);
    discreet(house.ovl(&["-vv", "pull", &reference]).code(1)).says("is not in the registry");
    let asked = tokens.asked();
    let last = asked.last().unwrap();
    assert!(
        last.path.contains("scope=repository%3Agroup%2Ffoo%3Apull") && last.path.contains("service=here"),
        "{last:?}"
    );
    // Who is spoken to in secret does not have us tell tokens' servers anything openly.
    let basic = registry
        .asked()
        .iter()
        .any(|asked| asked.headers.get("authorization").is_some_and(|value| value.starts_with("Basic")));
    assert!(!basic, "the password went to the registry although it asked for a token");
}
