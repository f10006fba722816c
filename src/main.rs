//! The command line's way in. What the commands do is in `scrutin::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    scrutin::cli::main()
}
