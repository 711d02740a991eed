//! How long requests are kept, as upstream keeps them. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::objects::SigningRequest;

/// Approved or denied ones.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// Those that nobody decided about.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// When a request goes.
pub(super) fn goes_at(request: &SigningRequest) -> Timestamp {
    let created = request
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::MAX, |time| time.0);
    let conditions = &request.status.conditions;
    let decided = conditions
        .iter()
        .filter_map(|condition| Some(condition.last_update_time.as_ref()?.0))
        .min();
    match decided {
        Some(at) => at.checked_add(DECIDED),
        None if conditions.is_empty() => created.checked_add(PENDING),
        None => created.checked_add(DECIDED),
    }
    .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::certificates::v1::CertificateSigningRequestCondition, apimachinery::pkg::apis::meta::v1::Time,
    };

    use super::*;

    #[test]
    fn requests_go_an_hour_after_their_decision_and_a_day_without_one() {
        let at = |hours: i64| Timestamp::from_second(1_800_000_000 + hours * 3600).expect("in range");
        let mut request = SigningRequest::default();
        assert_eq!(goes_at(&request), Timestamp::MAX);
        request.metadata.creation_timestamp = Some(Time(at(0)));
        assert_eq!(goes_at(&request), at(24));
        request
            .status
            .conditions
            .push(CertificateSigningRequestCondition::default());
        assert_eq!(goes_at(&request), at(1));
        request.status.conditions[0].last_update_time = Some(Time(at(5)));
        assert_eq!(goes_at(&request), at(6));
    }
}
