//! A server that `tools/kafka` or `tools/spark` starts for a bench.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::is_bench;

/// On drop, the server is killed and its data deleted.
pub struct Tool {
    script: PathBuf,
    folder: tempfile::TempDir,
    /// The server's address.
    pub address: String,
}

impl Tool {
    /// Runs `tools/<name> up` with these options. In a measurement, `jvm` is the variable and value of its JVM options.
    pub fn up(name: &str, options: &[&str], jvm: (&str, &str)) -> Tool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name);
        let folder =
            tempfile::Builder::new().prefix(&format!("scrutin-bench-{name}-")).tempdir().expect("make a folder");
        let mut command = Command::new(&script);
        command.arg("up").arg("--dir").arg(folder.path()).args(options);
        if is_bench() {
            command.env(jvm.0, jvm.1);
        }
        let done = command.output().expect("run the tool");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let address = String::from_utf8(done.stdout).expect("an address is text").trim().to_owned();
        Tool { script, folder, address }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Reads a pid from a file.
    pub fn pid(&self, file: &str) -> u32 {
        let pid = std::fs::read_to_string(self.path(file)).expect("read the pid file");
        pid.trim().parse().expect("a pid is a number")
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = Command::new(&self.script).args(["down", "--delete", "--dir"]).arg(self.folder.path()).status();
    }
}
