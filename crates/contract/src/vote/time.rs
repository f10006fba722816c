//! Parses and writes `cast_at`: RFC 3339 in UTC, with exactly three decimals: `2027-04-11T08:31:12.345Z`.

/// Length of the text.
pub const MILLIS_LEN: usize = 24;

const MS_PER_DAY: i64 = 86_400_000;

/// Parses the one accepted form into milliseconds since 1970 UTC. Years 0000 to 9999; no leap seconds.
#[inline]
pub fn parse_millis(text: &[u8]) -> Option<i64> {
    let t: &[u8; MILLIS_LEN] = text.try_into().ok()?;
    let shape = t[4] == b'-'
        && t[7] == b'-'
        && t[10] == b'T'
        && t[13] == b':'
        && t[16] == b':'
        && t[19] == b'.'
        && t[23] == b'Z';
    if !shape {
        return None;
    }
    let year = i64::from(number(&t[0..4])?);
    let month = number(&t[5..7])?;
    let day = number(&t[8..10])?;
    let hour = number(&t[11..13])?;
    let minute = number(&t[14..16])?;
    let second = number(&t[17..19])?;
    let milli = number(&t[20..23])?;
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let in_day = ((hour * 60 + minute) * 60 + second) * 1000 + milli;
    Some(days_from_civil(year, month, day) * MS_PER_DAY + i64::from(in_day))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| number * 10 + u32::from(digit))
    })
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible
/// low-level date algorithms", days_from_civil). Years count from March, so the leap day is the last.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = i64::from((153 * ((month + 9) % 12) + 2) / 5 + day - 1);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Appends the text of a time. Times outside the years 0000 to 9999 are clamped to them.
#[inline]
pub fn write_millis(millis: i64, out: &mut Vec<u8>) {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_300_799_999;
    let millis = millis.clamp(FIRST, LAST);
    let (days, in_day) = (millis.div_euclid(MS_PER_DAY), millis.rem_euclid(MS_PER_DAY));
    let (year, month, day) = civil_from_days(days);
    let digits = |out: &mut Vec<u8>, number: i64, width: u32| {
        for place in (0..width).rev() {
            out.push(b'0' + (number / 10_i64.pow(place) % 10) as u8);
        }
    };
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    digits(out, in_day / 3_600_000, 2);
    out.push(b':');
    digits(out, in_day / 60_000 % 60, 2);
    out.push(b':');
    digits(out, in_day / 1000 % 60, 2);
    out.push(b'.');
    digits(out, in_day % 1000, 3);
    out.push(b'Z');
}

/// The text of a time; see [`write_millis`].
pub fn format_millis(millis: i64) -> String {
    let mut out = Vec::with_capacity(MILLIS_LEN);
    write_millis(millis, &mut out);
    String::from_utf8(out).expect("digits are UTF-8")
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn knows_the_edges_of_the_calendar() {
        for good in [
            "0000-01-01T00:00:00.000Z",
            "0000-02-29T00:00:00.000Z",
            "1970-01-01T00:00:00.000Z",
            "2000-02-29T23:59:59.999Z",
            "2024-02-29T12:00:00.000Z",
            "9999-12-31T23:59:59.999Z",
        ] {
            let millis = parse_millis(good.as_bytes()).unwrap_or_else(|| panic!("{good} is a time"));
            assert_eq!(format_millis(millis), good);
        }
        for bad in [
            "2023-02-29T00:00:00.000Z",
            "1900-02-29T00:00:00.000Z",
            "2027-04-31T00:00:00.000Z",
            "2027-00-10T00:00:00.000Z",
            "2027-13-10T00:00:00.000Z",
            "2027-04-00T00:00:00.000Z",
            "2027-04-11T24:00:00.000Z",
            "2027-04-11T08:60:00.000Z",
            "2016-12-31T23:59:60.000Z",
            "2027-04-11t08:31:12.345z",
            "2027-04-11 08:31:12.345Z",
            "2027-04-11T08:31:12.345+",
            "2027-04-11T08:31:12Z",
            "2027-04-11T08:31:12.3456Z",
            "+027-04-11T08:31:12.345Z",
            "",
        ] {
            assert_eq!(parse_millis(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(millis in -62_167_219_200_000_i64..=253_402_300_799_999) {
            let text = format_millis(millis);
            prop_assert_eq!(parse_millis(text.as_bytes()), Some(millis));
            let other: jiff::Timestamp = text.parse().unwrap();
            prop_assert_eq!(other.as_millisecond(), millis);
        }
    }
}
