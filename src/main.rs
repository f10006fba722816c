//! The program's entry point. The commands are in `scrutin::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    scrutin::cli::main()
}
