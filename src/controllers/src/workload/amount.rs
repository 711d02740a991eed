//! Numbers that are given as such, or as percentages of another.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What `amount` is of `total`. Text that is no percentage is nothing; validation lets none of it in.
pub fn of(amount: &IntOrString, total: i32, round_up: bool) -> i32 {
    let percent = match amount {
        IntOrString::Int(number) => return *number,
        IntOrString::String(text) => text.strip_suffix('%').and_then(|percent| percent.parse::<i64>().ok()),
    };
    let hundredths = percent.unwrap_or_default().saturating_mul(total.into());
    let rounded = if round_up {
        hundredths.saturating_add(99).div_euclid(100)
    } else {
        hundredths.div_euclid(100)
    };
    rounded.clamp(0, i32::MAX.into()) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_to_the_side_that_is_asked_for() {
        for (amount, total, up, down) in [
            (IntOrString::Int(3), 10, 3, 3),
            (IntOrString::String("25%".into()), 10, 3, 2),
            (IntOrString::String("25%".into()), 3, 1, 0),
            (IntOrString::String("100%".into()), 7, 7, 7),
            (IntOrString::String("0%".into()), 7, 0, 0),
            (IntOrString::String("150%".into()), 2, 3, 3),
            (IntOrString::String("25".into()), 10, 0, 0),
            (
                IntOrString::String("99%".into()),
                i32::MAX,
                2_126_008_811,
                2_126_008_810,
            ),
        ] {
            assert_eq!(
                (of(&amount, total, true), of(&amount, total, false)),
                (up, down),
                "{amount:?} of {total}"
            );
        }
    }
}
