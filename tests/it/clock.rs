//! A wall clock that a test can shift while a program runs.

use std::path::PathBuf;
use std::process::Command;

use crate::run::Place;

/// A library that shifts the clock of programs, and the file that holds the shift in seconds.
pub struct ShiftedClock {
    library: PathBuf,
    file: PathBuf,
}

impl ShiftedClock {
    /// Shows the right time until it is [shifted](ShiftedClock::shift).
    pub fn new(place: &Place) -> ShiftedClock {
        let clock = ShiftedClock { library: place.path("shift.so"), file: place.path("shift") };
        let source = format!("{}/tests/it/clock/shift.c", env!("CARGO_MANIFEST_DIR"));
        let mut built = Command::new("cc");
        built.args(["-shared", "-fPIC", "-o"]).arg(&clock.library).args([&source, "-ldl"]);
        assert!(built.status().unwrap().success());
        clock.shift(0);
        clock
    }

    /// Makes the program read this clock.
    pub fn give_to(&self, program: &mut Command) {
        program.env("LD_PRELOAD", &self.library).env("CLOCK_SHIFT", &self.file);
    }

    pub fn shift(&self, seconds: i64) {
        std::fs::write(&self.file, seconds.to_string()).unwrap();
    }
}
