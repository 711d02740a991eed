//! What a certificate says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{extensions::GeneralName, prelude::FromDer, x509::X509Name};

use crate::key;

/// A certificate, its DER and what of it matters here.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    /// The first of which it is valid.
    pub not_before: Timestamp,
    /// The last of which it is valid.
    pub not_after: Timestamp,
    /// The subject's common name; empty if it has none.
    pub common_name: String,
    /// The subject's organizations, in their order.
    pub organizations: Vec<String>,
    /// DNS names and addresses it is valid for, in their order.
    pub names: Vec<String>,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// The subject in DER.
    pub(crate) subject: Vec<u8>,
    /// The public key's `SubjectPublicKeyInfo` in DER.
    pub public_info: Vec<u8>,
}

/// Why bytes are no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an X.509 certificate: {0}")]
pub struct NotACertificate(String);

impl Certificate {
    /// Parses DER. Checks the form only: neither signature nor time.
    pub fn from_der(der: CertificateDer<'static>) -> Result<Self, NotACertificate> {
        let wrong = |why: String| NotACertificate(why);
        let (rest, parsed) =
            x509_parser::certificate::X509Certificate::from_der(&der).map_err(|error| wrong(error.to_string()))?;
        if !rest.is_empty() {
            return Err(wrong("bytes follow it".into()));
        }
        let time = |at: &x509_parser::time::ASN1Time| {
            Timestamp::from_second(at.timestamp()).map_err(|error| wrong(error.to_string()))
        };
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| wrong(error.to_string()))?
            .map(|names| names.value.general_names.iter().filter_map(plain_name).collect())
            .unwrap_or_default();
        let (common_name, organizations) = subject(parsed.subject()).map_err(|why| wrong(why.into()))?;
        Ok(Self {
            not_before: time(&parsed.validity().not_before)?,
            not_after: time(&parsed.validity().not_after)?,
            common_name,
            organizations,
            names,
            is_ca: parsed.is_ca(),
            subject: parsed.subject().as_raw().to_vec(),
            public_info: parsed.public_key().raw.to_vec(),
            der,
        })
    }

    /// Parses the first certificate of a PEM text.
    pub fn from_pem(pem: &[u8]) -> Result<Self, NotACertificate> {
        Self::from_der(CertificateDer::from_pem_slice(pem).map_err(|error| NotACertificate(error.to_string()))?)
    }

    /// As it is sent.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// As it is shown.
    pub fn pem(&self) -> String {
        key::pem("CERTIFICATE", &self.der)
    }

    /// Whether it holds at this time.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether `issuer`'s key signed it.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        let Ok((_, parsed)) = x509_parser::certificate::X509Certificate::from_der(&self.der) else {
            return false;
        };
        let Ok((_, key)) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&issuer.public_info) else {
            return false;
        };
        parsed.issuer().as_raw() == issuer.subject && parsed.verify_signature(Some(&key)).is_ok()
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("common_name", &self.common_name)
            .field("organizations", &self.organizations)
            .field("names", &self.names)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Common name and organizations. A name with two common names is refused: which of them is meant is a matter of taste,
/// and who somebody is must not be.
pub(crate) fn subject(name: &X509Name<'_>) -> Result<(String, Vec<String>), &'static str> {
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute
            .as_str()
            .map(str::to_owned)
            .map_err(|_| "a subject that is no text")
    };
    let mut common_names = name.iter_common_name().map(text);
    let common_name = common_names.next().transpose()?.unwrap_or_default();
    if common_names.next().is_some() {
        return Err("a subject with two common names");
    }
    let organizations = name.iter_organization().map(text).collect::<Result<_, _>>()?;
    Ok((common_name, organizations))
}

/// A DNS name or an address; other kinds of names are none of ours.
fn plain_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Authority, Template};

    #[test]
    fn a_certificate_is_read_from_pem_and_shows_itself_without_its_bytes() {
        let authority = Authority::generate("bosun-ca", Timestamp::UNIX_EPOCH);
        let certificate = Certificate::from_pem(authority.certificate.pem().as_bytes()).unwrap();
        assert_eq!(certificate, authority.certificate);
        assert!(format!("{certificate:?}").contains("bosun-ca"));
        assert!(Certificate::from_pem(b"nothing").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Certificate::from_der(bytes.into()).is_err());
        }

        #[test]
        fn a_changed_certificate_is_not_believed(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let authority = Authority::generate("bosun-ca", Timestamp::UNIX_EPOCH);
            let (certificate, _) = authority.issue(&Template::client("jane", &["devs".into()]), Timestamp::UNIX_EPOCH);
            let mut der = certificate.der().to_vec();
            let at = at.index(der.len());
            der[at] ^= 1 << bit;
            let chain = [CertificateDer::from(der)];
            prop_assert!(crate::tls::verify_client(&authority.certificate, &chain, Timestamp::UNIX_EPOCH).is_err());
        }
    }
}
