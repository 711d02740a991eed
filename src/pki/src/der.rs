//! Just enough of DER (X.690) to write certificates.
//!
//! Written here because a certificate for a user in several groups holds several values of one attribute, and because
//! the subject and public key of a request are best copied as they came.

use jiff::{Timestamp, tz::TimeZone};

/// `ecdsa-with-SHA256` (RFC 5758).
pub(crate) const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// `id-ecPublicKey` (RFC 5480).
pub(crate) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `secp256r1` (RFC 5480).
pub(crate) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `id-at-commonName`.
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `id-at-organizationName`.
pub(crate) const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

/// `extensionRequest` (RFC 2985).
pub(crate) const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

pub(crate) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
pub(crate) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// Tag, length, value.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match value.len() {
        short @ 0..=0x7f => out.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
            out.push(0x80 | (bytes.len() - first) as u8);
            out.extend_from_slice(&bytes[first..]);
        }
    }
    out.extend_from_slice(value);
    out
}

pub(crate) fn sequence<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    tlv(0x30, &concat(parts))
}

/// A SET OF one element.
pub(crate) fn set(element: &[u8]) -> Vec<u8> {
    tlv(0x31, element)
}

pub(crate) fn concat<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.as_ref().iter().copied()).collect()
}

pub(crate) fn oid(encoded: &[u8]) -> Vec<u8> {
    tlv(0x06, encoded)
}

/// A number that is not negative, from its big-endian bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let first = bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len().saturating_sub(1));
    let mut value = bytes[first..].to_vec();
    if value.first().is_none_or(|byte| byte & 0x80 != 0) {
        value.insert(0, 0);
    }
    tlv(0x02, &value)
}

pub(crate) fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

pub(crate) fn octets(value: &[u8]) -> Vec<u8> {
    tlv(0x04, value)
}

/// Whole bytes as a BIT STRING.
pub(crate) fn bits(value: &[u8]) -> Vec<u8> {
    tlv(0x03, &concat(&[&[0][..], value]))
}

/// A BIT STRING of named bits, the first being the highest; trailing zeros are left out as DER wants.
pub(crate) fn named_bits(flags: u16) -> Vec<u8> {
    let bytes = flags.to_be_bytes();
    let used = if bytes[1] != 0 { 2 } else { usize::from(bytes[0] != 0) };
    let unused = if used == 0 {
        0
    } else {
        bytes[used - 1].trailing_zeros() as u8
    };
    tlv(0x03, &concat(&[&[unused][..], &bytes[..used]]))
}

/// `UTCTime` up to 2049 and `GeneralizedTime` after (RFC 5280, section 4.1.2.5).
pub(crate) fn time(at: Timestamp) -> Vec<u8> {
    let at = at.to_zoned(TimeZone::UTC);
    if (1950..2050).contains(&at.year()) {
        tlv(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        tlv(0x18, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

pub(crate) fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(id)];
    if critical {
        parts.push(tlv(0x01, &[0xff]));
    }
    parts.push(octets(value));
    sequence(&parts)
}

/// A distinguished name: the organizations, then the common name, as upstream's tools order them.
pub(crate) fn name(common_name: &str, organizations: &[String]) -> Vec<u8> {
    let attribute = |id: &[u8], value: &str| set(&sequence(&[oid(id), utf8(value)]));
    let mut parts: Vec<_> = organizations
        .iter()
        .map(|organization| attribute(ORGANIZATION, organization))
        .collect();
    if !common_name.is_empty() {
        parts.push(attribute(COMMON_NAME, common_name));
    }
    sequence(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_few_bytes_as_they_can() {
        let table = [
            (0, vec![0x30, 0]),
            (127, vec![0x30, 127]),
            (128, vec![0x30, 0x81, 128]),
            (256, vec![0x30, 0x82, 1, 0]),
        ];
        for (length, head) in table {
            assert!(tlv(0x30, &vec![7; length]).starts_with(&head), "{length}");
        }
    }

    #[test]
    fn numbers_stay_positive_and_short() {
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(unsigned(&[0]), [2, 1, 0]);
    }

    #[test]
    fn named_bits_end_with_the_last_one_that_is_set() {
        assert_eq!(named_bits(0x8000), [3, 2, 7, 0x80]);
        assert_eq!(named_bits(0xa000), [3, 2, 5, 0xa0]);
        assert_eq!(named_bits(0x0080), [3, 3, 7, 0, 0x80]);
        assert_eq!(named_bits(0), [3, 1, 0]);
    }

    #[test]
    fn times_change_their_form_in_2050() {
        let at = |text: &str| time(text.parse().unwrap());
        assert_eq!(at("2049-12-31T23:59:59Z"), tlv(0x17, b"491231235959Z"));
        assert_eq!(at("2050-01-01T00:00:00Z"), tlv(0x18, b"20500101000000Z"));
    }
}
