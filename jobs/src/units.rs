//! Durations, sizes, shares and picture sizes, with their units written out.

use crate::spec::Size;

/// Seconds of `10s`, `10m`, `2h`, `1d`.
pub(crate) fn duration_s(text: &str) -> Option<f64> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Some(number * scale)
}

/// Bytes of `512MiB`, `40GiB`, `1GB`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "B" => 1.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = (number * scale).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked on the same line"
    )]
    (1.0..1e18).contains(&bytes).then_some(bytes as u64)
}

/// The share of `5%`, above 0 up to 1.
pub(crate) fn share(text: &str) -> Option<f64> {
    let number: f64 = plain_number(text.strip_suffix('%')?)?;
    (number > 0.0 && number <= 100.0).then_some(number / 100.0)
}

/// A number without sign or exponent, and its unit; a space between them is fine.
fn split(text: &str) -> Option<(f64, &str)> {
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    Some((plain_number(&text[..at])?, text[at..].trim_start()))
}

fn plain_number(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if digits { text.parse().ok().filter(|number: &f64| number.is_finite()) } else { None }
}

/// Sides of pictures and panels are multiples of this, in pixels.
const GRID: u32 = 32;

/// Width and height of `768x768`.
pub(crate) fn size(text: &str) -> Option<Size> {
    let (width, height) = text.split_once('x')?;
    let side = |text: &str| {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    };
    Some(Size { width: side(width)?, height: side(height)? })
}

/// What is wrong with a size whose sides may have at most so many pixels: a message after the name of the key, and a help.
pub(crate) fn check_size(size: Size, max: Size) -> Result<(), (String, Option<String>)> {
    for (name, side, max) in [("width", size.width, max.width), ("height", size.height, max.height)]
    {
        if side < GRID || side > max {
            return Err((format!("{name} must be between {GRID} and {max}"), None));
        }
        if side % GRID != 0 {
            let near = |up: bool| {
                let snap = |side: u32, up: bool| {
                    if up { side.div_ceil(GRID) * GRID } else { side / GRID * GRID }
                };
                let (width, height) = if name == "width" {
                    (snap(size.width, up), snap(size.height, size.height % GRID * 2 >= GRID))
                } else {
                    (size.width, snap(size.height, up))
                };
                Size { width, height }
            };
            let help = format!("nearest {} or {}", near(false), near(true));
            return Err((format!("{name} must be a multiple of {GRID}"), Some(help)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_strangers_refused() {
        assert_eq!(bytes("512MiB"), Some(512 << 20));
        assert_eq!(bytes("40 GiB"), Some(40 << 30));
        assert_eq!(duration_s("10m"), Some(600.0));
        assert_eq!(share("5%"), Some(0.05));
        for bad in ["", "5", "MiB", "-5MiB", "5mib", "1e3MiB", "0MiB", "5.5.5MiB"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
        assert_eq!((share("0%"), share("101%"), share("5")), (None, None, None));
        assert_eq!(size("768x512"), Some(Size { width: 768, height: 512 }));
        for bad in [
            "768",
            "768X768",
            "768x",
            "x768",
            "-1x5",
            "+1x5",
            "768x768x768",
            " 768x768",
            "99999999999x1",
        ] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
