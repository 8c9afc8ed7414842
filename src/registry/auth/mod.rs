//! The user's credentials for registries, from the files and helpers that podman and docker use, in podman's order
//! (containers-auth.json(5)). They are shown nowhere: not in errors, not in debugging output.

mod file;
mod helper;

use std::path::{Path, PathBuf};

use super::{RegistryError, Result};
use crate::config::value::home;
use crate::sys::{env, fs, host};
use file::File;

/// Something secret; whoever prints it sees dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Of a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself: for headers, files and the standard input of helpers only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// What a registry is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password (or an access token in its place).
    User {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token that buys other tokens (OAuth 2 refresh token).
    Identity(Secret),
    /// A token that goes into the header as it is.
    Bearer(Secret),
}

/// Where credentials are looked for.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Files, the first that knows a registry counts.
    files: Vec<PathBuf>,
    /// The one that is written; None where there is no place for it.
    own: Option<PathBuf>,
    /// Credentials to be tried before any file: those that a login asks about.
    given: Option<Credentials>,
}

/// Where credentials were put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In a file.
    File(PathBuf),
    /// By a helper.
    Helper(String),
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kept::File(path) => write!(f, "{}", path.display()),
            Kept::Helper(name) => write!(f, "docker-credential-{name}"),
        }
    }
}

impl Keys {
    /// This user's: $REGISTRY_AUTH_FILE alone, if it is set; else podman's two files, then docker's.
    pub fn of_user() -> Keys {
        if let Some(path) = env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from) {
            return Keys { files: vec![path.clone()], own: Some(path), given: None };
        }
        let runtime = env::var_os("XDG_RUNTIME_DIR").map_or_else(
            || PathBuf::from(format!("/run/containers/{}", host::ids().0)),
            |dir| PathBuf::from(dir).join("containers"),
        );
        let config = env::var_os("XDG_CONFIG_HOME").map_or_else(|| home().join(".config"), PathBuf::from);
        let docker = env::var_os("DOCKER_CONFIG").map_or_else(|| home().join(".docker"), PathBuf::from);
        let own = match runtime.parent() {
            // Where sessions have no directory of their own, the user's configuration is the next that is read.
            Some(parent) if fs::is_writable_dir(&runtime) || fs::is_writable_dir(parent) => runtime.join("auth.json"),
            _ => config.join("containers/auth.json"),
        };
        let files = vec![
            runtime.join("auth.json"),
            config.join("containers/auth.json"),
            docker.join("config.json"),
            home().join(".dockercfg"),
        ];
        Keys { files, own: Some(own), given: None }
    }

    /// These credentials and no others.
    pub fn given(credentials: Credentials) -> Keys {
        Keys { files: Vec::new(), own: None, given: Some(credentials) }
    }

    /// The credentials for a repository: those whose key is the longest part of its name count.
    ///
    /// # Errors
    /// When a file or a helper that has to be asked cannot be used.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Credentials>> {
        if let Some(given) = &self.given {
            return Ok(Some(given.clone()));
        }
        for path in &self.files {
            let Some(file) = File::read(path)? else { continue };
            if let Some(name) = file.helper_for(registry) {
                // The one named for this registry is believed, whatever it says.
                return helper::get(name, registry);
            }
            if let Some(found) = file.find(registry, repository, path)? {
                return Ok(Some(found));
            }
            if let Some(name) = file.store()
                && let Some(found) = helper::get(name, registry)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn own(&self) -> Result<&Path> {
        self.own.as_deref().ok_or_else(|| RegistryError::Credentials {
            what: "credentials".into(),
            why: "there is no place to keep them".into(),
        })
    }

    /// The helper that keeps a registry's credentials, if the user has chosen one in any file.
    fn helper(&self, registry: &str) -> Result<Option<String>> {
        for path in &self.files {
            if let Some(file) = File::read(path)?
                && let Some(name) = file.helper_for(registry).or(file.store())
            {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }

    /// Keeps a user's password: by the helper that is chosen, else in the file, which only the user can read.
    ///
    /// # Errors
    /// When the helper or the file does not take it.
    pub fn keep(&self, registry: &str, user: &str, password: &Secret) -> Result<Kept> {
        if let Some(name) = self.helper(registry)? {
            helper::store(&name, registry, user, password)?;
            return Ok(Kept::Helper(name));
        }
        let path = self.own()?;
        let mut file = File::read(path)?.unwrap_or_default();
        file.put(registry, user, password);
        file.write(path)?;
        // What is found before it would count instead.
        for earlier in self.files.iter().take_while(|earlier| *earlier != path) {
            let Some(mut file) = File::read(earlier)? else { continue };
            if file.remove(registry) {
                file.write(earlier)?;
            }
        }
        Ok(Kept::File(path.to_owned()))
    }

    /// Forgets a registry's credentials wherever they are; tells where they were.
    ///
    /// # Errors
    /// When a file cannot be written, or a helper refuses.
    pub fn forget(&self, registry: &str) -> Result<Vec<Kept>> {
        let mut gone = Vec::new();
        for path in &self.files {
            let Some(mut file) = File::read(path)? else { continue };
            if let Some(name) = file.helper_for(registry).or(file.store())
                && helper::get(name, registry)?.is_some()
            {
                helper::erase(name, registry)?;
                gone.push(Kept::Helper(name.to_owned()));
            }
            if file.remove(registry) {
                file.write(path)?;
                gone.push(Kept::File(path.clone()));
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::User { user: user.into(), password: Secret::new(password) })
    }

    #[test]
    fn files_are_asked_in_order_and_written_for_the_user_alone() {
        use std::os::unix::fs::MetadataExt;
        let dir = std::env::temp_dir().join(format!("ovl-keys-{}", host::token()));
        let (first, second) = (dir.join("run/containers/auth.json"), dir.join("docker/config.json"));
        let keys = Keys { files: vec![first.clone(), second.clone()], own: Some(first.clone()), given: None };
        assert_eq!(keys.find("h.org", "a").unwrap(), None);
        fs::create_dirs(&dir.join("docker")).unwrap();
        // "old:one" and "a:b" in base64.
        let text = r#"{"auths":{"h.org":{"auth":"b2xkOm9uZQ=="},"h.org/grp":{"auth":"YTpi"}},"other":[1]}"#;
        fs::write_atomic(&second, text.as_bytes(), 0o600).unwrap();
        assert_eq!(keys.find("h.org", "x/y").unwrap(), user("old", "one"));
        assert_eq!(keys.find("h.org", "grp/y").unwrap(), user("a", "b"));
        assert_eq!(keys.find("h.org", "grpx/y").unwrap(), user("old", "one"));
        assert_eq!(keys.find("other.org", "grp/y").unwrap(), None);
        let kept = keys.keep("h.org", "me", &Secret::new("p:w")).unwrap();
        assert_eq!(kept, Kept::File(first.clone()));
        assert_eq!(fs::metadata(&first).unwrap().mode() & 0o777, 0o600);
        assert_eq!(keys.find("h.org", "x/y").unwrap(), user("me", "p:w"));
        assert_eq!(keys.forget("h.org").unwrap(), [Kept::File(first.clone()), Kept::File(second.clone())]);
        assert_eq!(keys.find("h.org", "x/y").unwrap(), None);
        assert_eq!(keys.find("h.org", "grp/y").unwrap(), user("a", "b"), "a part of it has its own");
        assert!(String::from_utf8(fs::read(&second).unwrap()).unwrap().contains("\"other\""), "what is not ours stays");
        fs::remove_tree(&dir).unwrap();
    }

    #[test]
    fn what_was_kept_last_counts() {
        let dir = std::env::temp_dir().join(format!("ovl-keys-{}", host::token()));
        let (first, second) = (dir.join("a.json"), dir.join("b.json"));
        fs::create_dirs(&dir).unwrap();
        let text = r#"{"auths":{"h.org":{"auth":"b2xkOm9uZQ=="},"i.org":{"auth":"YTpi"}}}"#;
        fs::write_atomic(&first, text.as_bytes(), 0o600).unwrap();
        let keys = Keys { files: vec![first, second.clone()], own: Some(second), given: None };
        keys.keep("h.org", "me", &Secret::new("new")).unwrap();
        assert_eq!(keys.find("h.org", "x").unwrap(), user("me", "new"));
        assert_eq!(keys.find("i.org", "x").unwrap(), user("a", "b"));
        fs::remove_tree(&dir).unwrap();
    }

    #[test]
    fn nothing_secret_is_printed() {
        let shown = format!("{:?}", Keys::given(user("me", "hunter2").unwrap()));
        assert!(!shown.contains("hunter2"), "{shown}");
        let path = std::env::temp_dir().join(format!("ovl-keys-{}", host::token()));
        for text in [r#"{"auths":{"h.org":{"auth":"hunter2!"}}}"#, r#"{"auths":{"h.org":"hunter2"}}"#, "hunter2"] {
            fs::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
            let keys = Keys { files: vec![path.clone()], ..Keys::default() };
            let error = keys.find("h.org", "x").unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains("ovl-keys-"), "{error}");
        }
        fs::remove_file(&path).unwrap();
    }
}
