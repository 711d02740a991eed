//! Kubernetes quantities (`500m`, `1.5Gi`, `2e3`), exact to the nano.

use std::{cmp::Ordering, fmt, ops::Add, str::FromStr};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

const NANOS: i128 = 1_000_000_000;
/// No quantity is greater than 2^63 - 1 in magnitude: what is written larger is capped.
const MAX: u128 = (i64::MAX as u128) * (NANOS as u128);

/// How a quantity was written, which is how it is printed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `n u m`, none, `k M G T P E`.
    Decimal,
    /// `Ki Mi Gi Ti Pi Ei`.
    Binary,
    /// `e3`, `E3`.
    Exponent,
}

/// A resource amount. Compares by value (`1 == 1000m`), prints in canonical form.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A string that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity: write a number with an optional suffix, such as 500m, 0.5, 1500M, 2Gi or 1e3")]
pub struct ParseQuantityError(String);

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::Decimal,
    };

    /// Whole units, printed in binary form: bytes.
    pub fn from_bytes(bytes: u64) -> Self {
        Self {
            nanos: (i128::from(bytes) * NANOS).min(MAX as i128),
            format: Format::Binary,
        }
    }

    /// Thousandths, printed in decimal form: processor time.
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * (NANOS / 1000),
            format: Format::Decimal,
        }
    }

    /// The amount a typed object carries as a string.
    pub fn of(written: &Written) -> Result<Self, ParseQuantityError> {
        written.0.parse()
    }

    /// Whole units, rounded away from zero.
    pub fn value(self) -> i64 {
        self.scaled(NANOS)
    }

    /// Thousandths, rounded away from zero.
    pub fn milli_value(self) -> i64 {
        self.scaled(NANOS / 1000)
    }

    /// Whether nothing is asked for.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount has no fraction.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }

    /// Whether the amount is some whole, positive number of times `unit`.
    pub fn is_multiple_of(self, unit: Self) -> bool {
        unit.nanos > 0 && self.nanos % unit.nanos == 0
    }

    /// Whether the amount is above zero.
    pub fn is_positive(self) -> bool {
        self.nanos > 0
    }

    fn scaled(self, unit: i128) -> i64 {
        let away = i128::from(self.nanos % unit != 0) * self.nanos.signum();
        (self.nanos / unit + away).clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        let max = MAX as i128;
        Self {
            nanos: (self.nanos + other.nanos).clamp(-max, max),
            format,
        }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl From<Quantity> for Written {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.pad("0");
        }
        // Amounts a binary suffix can't say exactly, or says no better, are printed in decimal.
        let binary = self.format == Format::Binary && self.is_whole() && self.nanos.abs() >= 1024 * NANOS;
        let (mut mantissa, base, mut exponent) = if binary {
            (self.nanos / NANOS, 1024, 0)
        } else {
            (self.nanos, 1000, -3)
        };
        while mantissa % base == 0 {
            mantissa /= base;
            exponent += 1;
        }
        let text = match (binary, self.format) {
            (true, _) => format!(
                "{mantissa}{}",
                ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][exponent as usize]
            ),
            (false, Format::Exponent) if exponent != 0 => format!("{mantissa}e{}", exponent * 3),
            (false, _) => {
                format!(
                    "{mantissa}{}",
                    ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][(exponent + 3) as usize]
                )
            }
        };
        f.pad(&text)
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseQuantityError(text.chars().take(64).collect()))
    }
}

/// What a suffix multiplies by.
enum Scale {
    Ten(i64),
    Two(u32),
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, rest) = split_digits(unsigned);
    let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (scale, format) = parse_suffix(suffix)?;
    let nanos = match scale {
        Scale::Ten(exponent) => decimal_nanos(whole, fraction, exponent),
        Scale::Two(exponent) => binary_nanos(whole, fraction, exponent),
    };
    let nanos = nanos.min(MAX) as i128;
    let format = if format == Format::Binary && nanos < NANOS {
        Format::Decimal
    } else {
        format
    };
    Some(Quantity {
        nanos: if negative { -nanos } else { nanos },
        format,
    })
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn parse_suffix(suffix: &str) -> Option<(Scale, Format)> {
    let ten = |exponent| Some((Scale::Ten(exponent), Format::Decimal));
    let two = |exponent| Some((Scale::Two(exponent), Format::Binary));
    match suffix {
        "n" => ten(-9),
        "u" => ten(-6),
        "m" => ten(-3),
        "" => ten(0),
        "k" => ten(3),
        "M" => ten(6),
        "G" => ten(9),
        "T" => ten(12),
        "P" => ten(15),
        "E" => ten(18),
        "Ki" => two(10),
        "Mi" => two(20),
        "Gi" => two(30),
        "Ti" => two(40),
        "Pi" => two(50),
        "Ei" => two(60),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some((Scale::Ten(exponent.into()), Format::Exponent))
        }
    }
}

/// `whole.fraction * 10^exponent` in nanos, rounded up, capped somewhere above [`MAX`].
fn decimal_nanos(whole: &str, fraction: &str, exponent: i64) -> u128 {
    let digits = || whole.bytes().chain(fraction.bytes());
    let Some(leading_zeros) = digits().position(|digit| digit != b'0') else {
        return 0;
    };
    // Digits left of the point, once the point stands behind the nanos and no zero leads.
    let kept = whole.len() as i64 - leading_zeros as i64 + exponent + 9;
    if kept > 30 {
        return u128::MAX;
    }
    let Ok(kept) = usize::try_from(kept) else { return 1 };
    let mut significant = digits().skip(leading_zeros);
    let mut nanos = 0;
    for _ in 0..kept {
        nanos = nanos * 10 + u128::from(significant.next().unwrap_or(b'0') - b'0');
    }
    nanos + u128::from(significant.any(|digit| digit != b'0'))
}

/// `whole.fraction * 2^exponent` in nanos, rounded up, capped at `u128::MAX`.
fn binary_nanos(whole: &str, fraction: &str, exponent: u32) -> u128 {
    let unit = (NANOS as u128) << exponent;
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() {
        Some(0)
    } else {
        whole.parse::<u128>().ok()
    };
    let Some(whole) = whole.and_then(|whole| whole.checked_mul(unit)) else {
        return u128::MAX;
    };
    // From the last digit to the first; flooring at each step floors the exact result.
    let mut nanos = 0;
    let mut inexact = false;
    for digit in fraction.bytes().rev() {
        let tenfold = u128::from(digit - b'0') * unit + nanos;
        nanos = tenfold / 10;
        inexact |= !tenfold.is_multiple_of(10);
    }
    whole.saturating_add(nanos + u128::from(inexact))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_parse_to_their_value_and_print_in_canonical_form() {
        // (written, canonical, milli value, value)
        let table: &[(&str, &str, i64, i64)] = &[
            ("0", "0", 0, 0),
            ("-0", "0", 0, 0),
            ("0Ki", "0", 0, 0),
            ("1", "1", 1000, 1),
            ("+1", "1", 1000, 1),
            ("1.", "1", 1000, 1),
            (".5", "500m", 500, 1),
            ("-.5", "-500m", -500, -1),
            ("0.1", "100m", 100, 1),
            ("1000m", "1", 1000, 1),
            ("1001m", "1001m", 1001, 2),
            ("100u", "100u", 1, 1),
            ("1n", "1n", 1, 1),
            ("0.1n", "1n", 1, 1),
            ("-0.1n", "-1n", -1, -1),
            ("1.1n", "2n", 1, 1),
            ("1500", "1500", 1_500_000, 1500),
            ("1000", "1k", 1_000_000, 1000),
            ("1k", "1k", 1_000_000, 1000),
            ("0.001k", "1", 1000, 1),
            ("128M", "128M", 128_000_000_000, 128_000_000),
            ("1Ki", "1Ki", 1_024_000, 1024),
            ("0.5Ki", "512", 512_000, 512),
            ("1.5Gi", "1536Mi", 1_610_612_736_000, 1_610_612_736),
            ("1024Ki", "1Mi", 1_048_576_000, 1_048_576),
            ("1.1Ki", "1126400m", 1_126_400, 1127),
            ("0.001Ki", "1024m", 1024, 2),
            ("0.0001Ki", "102400u", 103, 1),
            ("1e3", "1e3", 1_000_000, 1000),
            ("1E3", "1e3", 1_000_000, 1000),
            ("12e-1", "1200e-3", 1200, 2),
            ("1e0", "1", 1000, 1),
            ("1E", "1E", i64::MAX, 1_000_000_000_000_000_000),
            ("1Ei", "1Ei", i64::MAX, 1 << 60),
            ("8Ei", "9223372036854775807", i64::MAX, i64::MAX),
            ("100E", "9223372036854775807", i64::MAX, i64::MAX),
            ("-100E", "-9223372036854775807", i64::MIN, -i64::MAX),
            ("1e2147483647", "9223372036854775807", i64::MAX, i64::MAX),
            ("1e-2147483648", "1e-9", 1, 1),
            ("00000000000000000000000000000000000000000000001", "1", 1000, 1),
            ("0.00000000000000000000000000000000000000000000001", "1n", 1, 1),
            (
                "99999999999999999999999999999999999999999999Ei",
                "9223372036854775807",
                i64::MAX,
                i64::MAX,
            ),
        ];
        for &(written, canonical, milli, value) in table {
            let parsed = quantity(written);
            assert_eq!(parsed.to_string(), canonical, "{written}");
            assert_eq!(parsed.milli_value(), milli, "{written} in thousandths");
            assert_eq!(parsed.value(), value, "{written} in units");
            assert_eq!(quantity(canonical), parsed, "{canonical} read back");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            " ",
            "1 ",
            " 1",
            "+",
            "-",
            ".",
            "Mi",
            "m",
            "1.1.M",
            "1+1.0M",
            "0.1mi",
            "0.1am",
            "aoeu",
            ".5i",
            "1i",
            "-3.01i",
            "-3.01e-",
            "1e",
            "1e3.5",
            "1e99999999999",
            "--1",
            "1K",
            "1ki",
            "0x10",
            "1_000",
            "½",
            "1Ｇ",
            "NaN",
            "Inf",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?} was taken for a quantity");
        }
    }

    #[test]
    fn a_sum_keeps_the_first_format_that_says_something() {
        assert_eq!((Quantity::ZERO + quantity("1Gi")).to_string(), "1Gi");
        assert_eq!((quantity("1Gi") + quantity("512Mi")).to_string(), "1536Mi");
        assert_eq!((quantity("500m") + quantity("0.5")).to_string(), "1");
        assert_eq!((quantity("8E") + quantity("8E")).value(), i64::MAX);
        assert_eq!(Quantity::from_bytes(3 << 20).to_string(), "3Mi");
        assert_eq!(Quantity::from_milli(250).to_string(), "250m");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in ".{0,60}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn canonical_form_says_the_same_amount(
            text in "[+-]?([0-9]{1,22}(\\.[0-9]{0,30})?|\\.[0-9]{1,30})([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?"
        ) {
            let parsed = quantity(&text);
            let printed = parsed.to_string();
            let again = quantity(&printed);
            prop_assert_eq!(again, parsed);
            prop_assert_eq!(again.to_string(), printed);
        }

        #[test]
        fn binary_fractions_round_up_as_exact_arithmetic_does(whole in 0u64..1000, tenths in 0u64..10_000, exponent in 1u32..4) {
            let text = format!("{whole}.{tenths:04}{}", ["Ki", "Mi", "Gi"][exponent as usize - 1]);
            let exact = (u128::from(whole) * 10_000 + u128::from(tenths)) * (1u128 << (10 * exponent)) * 100_000;
            prop_assert_eq!(quantity(&text).nanos as u128, exact);
        }

        #[test]
        fn order_and_sum_follow_the_value(left in -1_000_000i64..1_000_000, right in -1_000_000i64..1_000_000) {
            let (a, b) = (Quantity::from_milli(left), Quantity::from_milli(right));
            prop_assert_eq!(a.cmp(&b), left.cmp(&right));
            prop_assert_eq!((a + b).milli_value(), left + right);
        }
    }
}
