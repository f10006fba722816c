//! The clock for measuring latencies, which may be changed while the program runs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// If the wall clock deviates further from the elapsed time, it was changed. If it is further behind a broker's clock,
/// the latency of that append is unknown.
const TOLERANCE: Duration = Duration::from_millis(500);

/// The wall clock, checked against elapsed time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: SystemTime,
    at: Instant,
    set_at: Option<SystemTime>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { wall: SystemTime::now(), at: Instant::now(), set_at: None }
    }
}

impl Clock {
    pub fn now(&mut self) -> SystemTime {
        self.read(SystemTime::now(), Instant::now())
    }

    /// Takes a reading of the wall clock at an instant.
    fn read(&mut self, wall: SystemTime, at: Instant) -> SystemTime {
        let expected = self.wall + at.saturating_duration_since(self.at);
        let apart = wall.duration_since(expected).unwrap_or_else(|error| error.duration());
        if apart > TOLERANCE {
            tracing::warn!(
                "the clock was changed by {:.1} s; the latency of votes appended before that is unknown",
                apart.as_secs_f64()
            );
            self.set_at = Some(wall);
        }
        (self.wall, self.at) = (wall, at);
        wall
    }

    /// Milliseconds from an append (`appended_at_ms`, since 1970 UTC) to the last reading. `None` if the two clocks
    /// disagree.
    pub(super) fn since(&self, appended_at_ms: i64) -> Option<f64> {
        let ms = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0);
        let appended_ms = appended_at_ms as f64;
        let since = ms(self.wall) - appended_ms;
        let is_known = since >= -(TOLERANCE.as_millis() as f64) && self.set_at.is_none_or(|set| appended_ms >= ms(set));
        is_known.then_some(since.max(0.0))
    }

    #[cfg(test)]
    pub(super) fn at_ms(ms: u64) -> Clock {
        Clock { wall: UNIX_EPOCH + Duration::from_millis(ms), at: Instant::now(), set_at: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// A clock that shows 10:00, and this time a second later.
    fn read_at(ms: u64) -> Clock {
        let mut clock = Clock::at_ms(10 * HOUR_MS);
        let at = clock.at + Duration::from_secs(1);
        assert_eq!(clock.read(UNIX_EPOCH + Duration::from_millis(ms), at), UNIX_EPOCH + Duration::from_millis(ms));
        clock
    }

    #[test]
    fn latency_is_from_append_to_now() {
        let clock = read_at(10 * HOUR_MS + 1000);
        assert_eq!(clock.since(10 * HOUR_MS as i64 + 300), Some(700.0));
        // The broker's clock is slightly ahead, or far ahead.
        assert_eq!(clock.since(10 * HOUR_MS as i64 + 1100), Some(0.0));
        assert_eq!(clock.since(10 * HOUR_MS as i64 + 2000), None);
    }

    #[test]
    fn appends_before_the_clock_was_changed_have_no_latency() {
        for set in [11, 9] {
            let mut clock = read_at(set * HOUR_MS);
            assert_eq!(clock.since(10 * HOUR_MS as i64 + 900), None, "{set}");
            let at = clock.at + Duration::from_millis(100);
            clock.read(UNIX_EPOCH + Duration::from_millis(set * HOUR_MS + 100), at);
            assert_eq!(clock.since((set * HOUR_MS) as i64 + 60), Some(40.0), "{set}");
            assert_eq!(clock.since(10 * HOUR_MS as i64 + 900), None, "{set}");
        }
    }
}
