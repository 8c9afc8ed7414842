//! The `ovl` program: hands the command line to the library and ends with its exit code.

fn main() -> std::process::ExitCode {
    ovl::cli::main()
}
