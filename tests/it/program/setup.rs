//! `tools/setup` on a machine without Rust, simulated by a PATH with few programs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The system programs that the script uses.
const NEEDED: [&str; 12] =
    ["sh", "dirname", "sed", "cut", "sort", "tail", "uname", "id", "cat", "mkdir", "chmod", "paste"];

/// Stands in for rustup: installs a cargo and a rustc into the home that only print their version.
const RUSTUP: &str = r#"#!/bin/sh
cat <<'END'
mkdir -p "$HOME/.cargo/bin"
for program in cargo rustc; do
    printf '#!/bin/sh\necho "rustc 1.95.0 (made up)"\n' >"$HOME/.cargo/bin/$program"
    chmod +x "$HOME/.cargo/bin/$program"
done
END
"#;

fn run(home: &Path, yes: Option<&str>) -> Output {
    let programs = home.join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    for name in NEEDED {
        let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
        let found = found.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no {name} here"));
        let _ = std::os::unix::fs::symlink(found, programs.join(name));
    }
    for (name, text) in [("curl", RUSTUP), ("cc", "#!/bin/sh\n"), ("c++", "#!/bin/sh\n"), ("make", "#!/bin/sh\n")] {
        std::fs::write(programs.join(name), text).unwrap();
        std::fs::set_permissions(programs.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("/bin/sh");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/setup")).arg("demo");
    command.env_clear().env("HOME", home).env("PATH", programs).env("DATABASE_URL", "postgresql://elsewhere");
    if let Some(yes) = yes {
        command.env("YES", yes);
    }
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn rust_is_installed_only_after_a_yes() {
    let home = tempfile::tempdir().unwrap();
    let asked = run(home.path(), None);
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(!asked.status.success() && said.contains("run this again with YES=1, or install it first:"), "{said}");
    assert!(!home.path().join(".cargo").exists(), "nothing is installed without a yes");

    let confirmed = run(home.path(), Some("1"));
    let said = String::from_utf8_lossy(&confirmed.stderr);
    assert!(confirmed.status.success() && said.contains("setup: Rust 1.95.0"), "{said}");
    assert!(home.path().join(".cargo/bin/cargo").exists());
}
