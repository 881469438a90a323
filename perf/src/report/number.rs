//! Figures for people: four digits, thousands told apart.

/// A figure with four significant digits; all digits before the point are kept.
pub(crate) fn show(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    let size = value.abs();
    let decimals = match size {
        _ if value == value.trunc() => 0,
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        0.1.. => 3,
        0.001.. => 5,
        _ => return format!("{value:.2e}"),
    };
    group(&format!("{value:.decimals$}"))
}

/// A figure that somebody has set, as it was set.
pub(crate) fn exact(value: f64) -> String {
    group(&value.to_string())
}

/// A figure on an axis: without zeros that say nothing.
pub(crate) fn tick(value: f64) -> String {
    let text = show(value);
    match text.split_once('.') {
        Some(_) if !text.contains('e') => {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => text,
    }
}

/// A change in per cent, with its sign.
pub(crate) fn percent(change: f64) -> String {
    if !change.is_finite() {
        return "from 0".into();
    }
    format!("{change:+.1} %")
}

/// Puts commas between thousands.
fn group(text: &str) -> String {
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_exact_enough() {
        for (value, text) in [
            (0.0, "0"),
            (92.0, "92"),
            (0.9124, "0.912"),
            (0.01234, "0.01234"),
            (0.000_012, "1.20e-5"),
            (7.4321, "7.432"),
            (74.321, "74.32"),
            (743.21, "743.2"),
            (1234.5, "1,234"),
            (6_123_456.7, "6,123,457"),
            (-1234.0, "-1,234"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(show(value), text);
        }
    }

    #[test]
    fn axes_have_short_figures() {
        for (value, text) in
            [(0.6, "0.6"), (2.0, "2"), (0.25, "0.25"), (1e-6, "1.00e-6"), (1500.0, "1,500")]
        {
            assert_eq!(tick(value), text);
        }
    }

    #[test]
    fn what_was_set_is_told_as_it_was_set() {
        assert_eq!(exact(1.4), "1.4");
        assert_eq!(exact(10_000_000.0), "10,000,000");
    }

    #[test]
    fn changes_have_a_sign() {
        assert_eq!(percent(12.34), "+12.3 %");
        assert_eq!(percent(-0.06), "-0.1 %");
        assert_eq!(percent(f64::INFINITY), "from 0");
    }
}
