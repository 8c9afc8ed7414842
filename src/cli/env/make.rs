//! `ovl overlay create IMAGE -- PACKAGES`, and what every change needs: archives fetched, packages written out where they
//! are to be copied from, their scripts run in the image.

use std::path::{Path, PathBuf};

use rattler_conda_types::{PackageRecord, RepoDataRecord, Subdir};

use crate::build::work::scratch;
use crate::cli::args::Create;
use crate::cli::failure::{Failure, Outcome, code};
use crate::cli::pack::Watching;
use crate::cli::{Context, search};
use crate::conda::Conda;
use crate::conda::cache::{Cache, FetchError, How};
use crate::conda::link::{self, LinkError, LinkScript, Wanted};
use crate::exec::environ::CONDA;
use crate::image::ImageError;
use crate::image::source::extract::{Options, extract};
use crate::model::cmd::Cmd;
use crate::model::units::show_size;
use crate::net;
use crate::recipe::conda::{self, Content, Environment};
use crate::recipe::finding::Finding;
use crate::runtime::writable::care::{self, Order};
use crate::sys::process::{self, Ended};
use crate::sys::workdir::WorkDir;
use crate::sys::{clock, env, fs, signal};
use crate::ui::Meter;

/// Transfers at a time.
const TRANSFERS: usize = 6;

struct Fetching<'a>(&'a Meter);

impl net::Watch for Fetching<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.0.tell(done, total);
    }

    fn cancelled(&self) -> bool {
        signal::interrupted().is_some()
    }
}

/// Packages to be written out.
pub struct Packages<'a> {
    /// Their records.
    pub records: Vec<RepoDataRecord>,
    /// What they are for.
    pub platform: Subdir,
    /// The python they are added to.
    pub python: Option<PackageRecord>,
    /// What was asked for.
    pub requested: Vec<String>,
    /// Below this directory: as they will be in the environment.
    pub top: &'a Path,
    /// A node-local directory.
    pub work: &'a WorkDir,
}

/// A node-local directory.
pub fn work(context: &Context) -> Result<WorkDir, Failure> {
    Ok(WorkDir::create(&scratch(&context.config), context.config.lease())?)
}

/// Fetches packages and writes them out; the scripts that are to be run then.
pub fn write_out(packages: Packages, context: &Context) -> Result<(Vec<LinkScript>, u64), Failure> {
    let Packages { records, platform, python, requested, top, work } = packages;
    let meter = Meter::new(context.ui, &context.config.progress(), "fetching packages");
    let how = crate::conda::cache::How { threads: TRANSFERS, offline: context.config.offline() };
    let archives = fetch(&records, how, &meter, context)?;
    meter.turn_to("putting packages together");
    let watch = Watching(&meter);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = Wanted {
        packages: records.into_iter().zip(archives).collect(),
        platform,
        prefix: CONDA,
        scratch: &work.make("archives")?,
        threads,
        time: clock::now(),
        requested,
        python,
    };
    let environment = link::compose(wanted, &watch).map_err(bad)?;
    let scripts = environment.scripts();
    if let Some(script) = scripts.first()
        && Subdir::current() != Some(platform)
    {
        return Err(Failure::new(
            code::UNFIT,
            format!("the script of {} is for {platform} and cannot be run here", script.package),
        ));
    }
    for path in environment.clobbered() {
        context.ui.warn(&format!("several packages bring {path}; the others' are below __clobbers__/"));
    }
    if !environment.active().scripts.is_empty() {
        let names = environment.active().scripts.join(", ");
        context
            .ui
            .warn(&format!("there are scripts that conda's activation would run, and ovl exec does not: {names}"));
    }
    let source = environment.finish().map_err(bad)?;
    fs::create_dirs(top)?;
    let options = Options { keep_owner: false, replace: false, threads };
    let report = extract(&source, top, options, &watch).map_err(|error| bad(error.into()))?;
    // Every file takes whole blocks, and an inode.
    Ok((scripts, report.bytes.saturating_add(report.files.saturating_mul(4096))))
}

fn fetch(records: &[RepoDataRecord], how: How, meter: &Meter, context: &Context) -> Result<Vec<PathBuf>, Failure> {
    Cache::of(&context.config).fetch(records, how, &Fetching(meter)).map_err(|error| match error {
        FetchError::Interrupted => Failure::new(code::INTERRUPTED, "interrupted"),
        FetchError::Missing { .. } => Failure::new(code::UNFIT, error.to_string())
            .hint("leave --offline out, or run it once where there is a network"),
        FetchError::Net(error) => error.into(),
        FetchError::File(error) => error.into(),
        FetchError::Damaged(_) | FetchError::Gone(_) | FetchError::Credentials(_) => {
            Failure::new(code::UNFIT, error.to_string())
        }
    })
}

fn bad(error: LinkError) -> Failure {
    match error {
        LinkError::Image(ImageError::Interrupted) => Failure::new(code::INTERRUPTED, "interrupted"),
        error => Failure::new(code::ERROR, error.to_string()),
    }
}

/// Runs a program with the image writable, over this machine.
pub fn inside(image: &Path, vars: &[(&str, &str)], argv: &[&str]) -> Result<(), Failure> {
    let program =
        env::current_exe().map_err(|error| Failure::new(code::ERROR, format!("cannot start ovl: {error}")))?;
    let mut cmd = Cmd::new(program).args(["exec", "--base", "/", "-w"]).arg(image);
    for (name, value) in vars {
        cmd = cmd.arg("--env").arg(format!("{name}={value}"));
    }
    match process::run_aside(&cmd.args(argv.iter().copied())) {
        Ok(Ended::Code(0)) => Ok(()),
        Ok(Ended::Code(code)) => Err(Failure::new(
            u8::try_from(code).unwrap_or(code::ERROR),
            format!("{} was not changed as it should have been", image.display()),
        )),
        Ok(ended) => Err(Failure::new(code::ERROR, format!("changing {}: {ended}", image.display()))),
        Err(error) => Err(Failure::new(code::ERROR, format!("cannot start ovl: {error}"))),
    }
}

/// Runs the scripts of packages in the image, in order.
pub fn run_scripts(image: &Path, scripts: &[LinkScript], context: &Context) -> Result<(), Failure> {
    for script in scripts {
        context.ui.say(&format!("running the script of {} {}", script.package, script.version));
        let number = script.build_number.to_string();
        let vars = [
            ("PREFIX", CONDA),
            ("ROOT_PREFIX", CONDA),
            ("PKG_NAME", &script.package),
            ("PKG_VERSION", &script.version),
            ("PKG_BUILDNUM", &number),
        ];
        let line = format!(
            "bash '{CONDA}/{}'; status=$?; if [ -f '{CONDA}/.messages.txt' ]; then cat '{CONDA}/.messages.txt'; \
             rm -f '{CONDA}/.messages.txt'; fi; exit $status",
            script.path
        );
        inside(image, &vars, &["bash", "-c", &line]).map_err(|failure| {
            let again = format!("run it again with: ovl exec -w {} bash {CONDA}/{}", image.display(), script.path);
            let text = format!("the script of {} failed; its files are installed", script.package);
            Failure::new(failure.code, text).hint(again)
        })?;
    }
    Ok(())
}

/// What a text asks for; without what an image cannot have.
fn asked(label: &str, text: &str, context: &Context) -> Result<Environment, Failure> {
    let mut findings = Vec::new();
    let environment = conda::read(label, text, &mut findings);
    let (errors, others): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.is_error());
    others.iter().for_each(|finding| context.ui.warn(&finding.to_string()));
    if !errors.is_empty() {
        let lines: Vec<String> = errors.iter().map(|finding: &&Finding| finding.to_string()).collect();
        return Err(Failure::usage(lines.join("\n")));
    }
    if !environment.pip.is_empty() {
        return Err(Failure::usage(format!("{label}: packages of pip are not put into a new image"))
            .hint("leave the pip: section out, and then run: ovl exec -w IMAGE pip install …"));
    }
    if !environment.variables.is_empty() {
        context.ui.warn(&format!("{label}: variables: are not set by images; set them with: ovl exec --env"));
    }
    Ok(environment)
}

/// Makes an image with an environment.
pub fn create(args: &Create, order: Order, context: &Context) -> Outcome {
    let conda = Conda::new(&context.config, &search::wishes(&args.conda))?;
    let (label, text) = match &args.file {
        Some(file) => {
            let bytes = fs::read(&env::current_dir().join(file)).map_err(|error| Failure::usage(error.to_string()))?;
            (file.display().to_string(), String::from_utf8_lossy(&bytes).into_owned())
        }
        None => ("packages".to_owned(), conda::compose(&args.packages, &[], None)),
    };
    let environment = asked(&label, &text, context)?;
    let locked = conda.lock(&label, &text, &environment)?;
    conda.notes().iter().for_each(|note| context.ui.warn(note));
    let total: u64 = locked.records.iter().filter_map(|record| record.package_record.size).sum();
    let path = order.path.display().to_string();
    let about = format!("{} packages for {}, {} to fetch", locked.records.len(), locked.platform, show_size(total));
    if args.dry_run {
        context.ui.out(&format!("would make {path}, {}, with {about}", show_size(order.size)));
        for record in &locked.records {
            let one = &record.package_record;
            context.ui.out(&format!("  + {} {} {}", one.name.as_normalized(), one.version, one.build));
        }
        return Ok(0);
    }
    context.ui.say(&format!("{path}: {about}"));
    let requested = match &environment.content {
        Content::Wishes(wishes) => wishes.iter().map(|wish| wish.value.clone()).collect(),
        _ => Vec::new(),
    };
    let work = work(context)?;
    let seed = work.path().join("seed");
    let (records, platform) = (locked.records, locked.platform);
    let top = seed.join(CONDA.trim_start_matches('/'));
    let (scripts, bytes) =
        write_out(Packages { records, platform, python: None, requested, top: &top, work: &work }, context)?;
    if bytes > order.size {
        let text = format!("--size: the environment needs {}, more than {}", show_size(bytes), show_size(order.size));
        return Err(Failure::usage(text));
    }
    let order = Order { from: Some(seed), ..order };
    care::create(&order, &|_| {})?;
    run_scripts(&order.path, &scripts, context)?;
    context.ui.say(&format!("{path}: made, {}; use it with: ovl e {path} -- CMD", show_size(order.size)));
    Ok(0)
}
