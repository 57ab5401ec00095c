//! What people type with a unit.

use std::time::Duration;

/// `90s`, `10m`, `8h`, `2d` or plain seconds.
///
/// # Errors
/// Words for clap.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    let (number, unit) = units
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1.0));
    match number.parse::<f64>() {
        Ok(number) if number >= 0.0 => {
            Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())
        }
        _ => Err("expected a time such as 90s, 10m or 8h".to_owned()),
    }
}

/// `--threads`, 0 meaning one per core.
#[must_use]
pub fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// `512x1024` as width and height.
///
/// # Errors
/// Words for clap when it is not two positive numbers.
pub fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let size = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    size.filter(|(w, h)| *w > 0 && *h > 0)
        .ok_or_else(|| "expected width and height in pixels, such as 512x1024".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("8h"), Ok(Duration::from_secs(28_800)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        for bad in ["", "h", "-1s", "1 week", "nan", "1e300h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
