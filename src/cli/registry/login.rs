//! `ovl login` and `ovl logout`: credentials are tried with the registry, and kept where podman and docker find them, too.
//! A password comes from the terminal or from standard input, never from the command line.

use super::{Watching, without_scheme};
use crate::cli::Context;
use crate::cli::args::{Login, Logout};
use crate::cli::failure::{Failure, Outcome, code};
use crate::registry::auth::{Credentials, Keys, Secret};
use crate::registry::{Client, Options, RegistryError};
use crate::sys::{signal, term};
use crate::ui::Meter;

/// Longest password.
const LONGEST: u64 = 64 << 10;

/// Runs `ovl login`.
pub fn login(args: &Login, context: &Context) -> Outcome {
    let options = Options { plain_http: args.plain_http, ..Options::new(&context.config) };
    let registry = host(&args.registry, &options)?;
    if !args.password_stdin && !term::stdin_is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for the password on")
            .hint(format!("give it as standard input: ovl login {registry} -u USER --password-stdin < FILE")));
    }
    if args.password_stdin && args.user.is_none() {
        return Err(Failure::usage("with --password-stdin the user has to be named: -u USER"));
    }
    let user = match &args.user {
        Some(user) => user.clone(),
        None => {
            context.ui.ask(&format!("user for {registry}: "));
            line(false)?
        }
    };
    if user.is_empty() || user.contains([':', '\n', '\r']) {
        return Err(Failure::usage("a user's name is neither empty nor has it colons in it"));
    }
    let password = if args.password_stdin {
        let bytes = term::read_all(LONGEST).map_err(|error| Failure::usage(format!("standard input: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| Failure::usage("the password is not UTF-8"))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        text.strip_suffix('\r').unwrap_or(text).to_owned()
    } else {
        context.ui.ask(&format!("password of {user} (not shown): "));
        let password = line(true);
        context.ui.say("");
        password?
    };
    if password.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    let password = Secret::new(password);
    let credentials = Credentials::User { user: user.clone(), password: password.clone() };
    let meter = Meter::new(context.ui, &context.config.progress(), &format!("logging in to {registry}"));
    let trial = Options { keys: Keys::given(credentials), ..options.clone() };
    Client::new(&registry, &trial)?.ping(&Watching(&meter)).map_err(|error| match error {
        RegistryError::Unauthorized { .. } => {
            Failure::new(code::ERROR, format!("{registry} does not take this user and password"))
                .hint("nothing was kept; some registries want an access token in place of the password")
        }
        other => other.into(),
    })?;
    drop(meter);
    let kept = options.keys.keep(&registry, &user, &password)?;
    context.ui.say(&format!("logged in to {registry} as {user}; kept by {kept}"));
    Ok(0)
}

/// Runs `ovl logout`.
pub fn logout(args: &Logout, context: &Context) -> Outcome {
    let options = Options::new(&context.config);
    let registry = host(&args.registry, &Options { plain_http: true, ..options.clone() })?;
    let gone = options.keys.forget(&registry)?;
    if gone.is_empty() {
        return Err(Failure::usage(format!("there are no credentials for {registry}")));
    }
    for kept in gone {
        context.ui.say(&format!("logged out of {registry}: removed from {kept}"));
    }
    Ok(0)
}

/// The host that is meant.
fn host(text: &str, options: &Options) -> Result<String, Failure> {
    let rest = without_scheme(text, options)?;
    let host = rest.split('/').next().unwrap_or_default();
    crate::registry::check_host(host).map_err(Failure::usage)
}

fn line(hidden: bool) -> Result<String, Failure> {
    let line = term::read_line(hidden).map_err(|error| Failure::new(code::ERROR, format!("the terminal: {error}")))?;
    match line {
        Some(line) => Ok(line),
        None if signal::interrupted().is_some() => {
            Err(Failure::new(code::INTERRUPTED, "interrupted; nothing was kept"))
        }
        None => Err(Failure::usage("nothing was entered")),
    }
}
