//! The certificate authority.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

use crate::{Certificate, PrivateKey, der};

/// How long the authority's own certificate holds: upstream's ten years.
pub const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How long what it issues holds, if nothing shorter is asked for: upstream's year.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Certificates begin this long before they are made, for clocks that lag.
pub const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// Bits of the key-usage extension (RFC 5280, section 4.2.1.3), the first being the highest.
pub mod usage {
    /// `digitalSignature`
    pub const DIGITAL_SIGNATURE: u16 = 1 << 15;
    /// `nonRepudiation`
    pub const CONTENT_COMMITMENT: u16 = 1 << 14;
    /// `keyEncipherment`
    pub const KEY_ENCIPHERMENT: u16 = 1 << 13;
    /// `dataEncipherment`
    pub const DATA_ENCIPHERMENT: u16 = 1 << 12;
    /// `keyAgreement`
    pub const KEY_AGREEMENT: u16 = 1 << 11;
    /// `keyCertSign`
    pub const CERT_SIGN: u16 = 1 << 10;
    /// `cRLSign`
    pub const CRL_SIGN: u16 = 1 << 9;
    /// `encipherOnly`
    pub const ENCIPHER_ONLY: u16 = 1 << 8;
    /// `decipherOnly`
    pub const DECIPHER_ONLY: u16 = 1 << 7;
}

/// Extended key usages (RFC 5280, section 4.2.1.12), encoded.
pub mod purpose {
    /// `anyExtendedKeyUsage`
    pub const ANY: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
    /// `id-kp-serverAuth`
    pub const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    /// `id-kp-clientAuth`
    pub const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
    /// `id-kp-codeSigning`
    pub const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
    /// `id-kp-emailProtection`
    pub const EMAIL_PROTECTION: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 4];
    /// `id-kp-ipsecEndSystem`
    pub const IPSEC_END_SYSTEM: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 5];
    /// `id-kp-ipsecTunnel`
    pub const IPSEC_TUNNEL: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 6];
    /// `id-kp-ipsecUser`
    pub const IPSEC_USER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 7];
    /// `id-kp-timeStamping`
    pub const TIME_STAMPING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];
    /// `id-kp-OCSPSigning`
    pub const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
    /// Microsoft's server-gated cryptography.
    pub const MICROSOFT_SGC: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3];
    /// Netscape's server-gated cryptography.
    pub const NETSCAPE_SGC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1];
}

/// A name a certificate is valid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AltName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// An address of mail.
    Email(String),
    /// A URI.
    Uri(String),
}

/// A certificate to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations: a user's groups.
    pub organizations: Vec<String>,
    /// What it is valid for.
    pub names: Vec<AltName>,
    /// Bits of [`usage`].
    pub usages: u16,
    /// Of [`purpose`].
    pub purposes: Vec<&'static [u8]>,
    /// How long it holds; `None`: [`LEAF_LIFE`].
    pub life: Option<SignedDuration>,
}

impl Template {
    /// For a server of these DNS names and addresses.
    pub fn server(common_name: &str, names: &[String]) -> Self {
        Self {
            common_name: common_name.to_owned(),
            names: names
                .iter()
                .map(|name| name.parse().map_or_else(|_| AltName::Dns(name.clone()), AltName::Ip))
                .collect(),
            usages: usage::DIGITAL_SIGNATURE | usage::KEY_ENCIPHERMENT,
            purposes: vec![purpose::SERVER_AUTH],
            ..Self::default()
        }
    }

    /// For a client who is this user in these groups.
    pub fn client(user: &str, groups: &[String]) -> Self {
        Self {
            common_name: user.to_owned(),
            organizations: groups.to_vec(),
            usages: usage::DIGITAL_SIGNATURE | usage::KEY_ENCIPHERMENT,
            purposes: vec![purpose::CLIENT_AUTH],
            ..Self::default()
        }
    }
}

/// A certificate authority: its certificate, and the key that signs.
#[derive(Debug)]
pub struct Authority {
    /// What others trust.
    pub certificate: Certificate,
    pub(crate) key: PrivateKey,
}

impl Authority {
    /// A new one, with a new key.
    pub fn generate(common_name: &str, now: Timestamp) -> Self {
        Self::over(PrivateKey::generate(), common_name, now)
    }

    /// One with this key. What another certificate of the same key and name signed stays valid.
    pub fn over(key: PrivateKey, common_name: &str, now: Timestamp) -> Self {
        let subject = der::name(common_name, &[]);
        let public = key.public_info();
        let extensions = [
            der::extension(
                der::KEY_USAGE,
                true,
                &der::named_bits(usage::DIGITAL_SIGNATURE | usage::KEY_ENCIPHERMENT | usage::CERT_SIGN),
            ),
            der::extension(der::BASIC_CONSTRAINTS, true, &der::sequence(&[der::tlv(1, &[0xff])])),
            der::extension(der::SUBJECT_KEY_ID, false, &der::octets(&key_id(&public))),
            // Go's clients look at alternative names only, so the common name is one of them, as upstream's CA has it.
            der::extension(
                der::SUBJECT_ALT_NAME,
                false,
                &der::sequence(&[der::tlv(0x82, common_name.as_bytes())]),
            ),
        ];
        let validity = (now - BACKDATE, now + AUTHORITY_LIFE);
        let certificate = assemble(&key, &subject, &subject, &public, validity, &extensions);
        Self { certificate, key }
    }

    /// An authority from its parts, if they belong together and make one.
    pub fn from_parts(certificate: Certificate, key: PrivateKey) -> Option<Self> {
        (certificate.is_ca && certificate.public_info == key.public_info() && certificate.is_signed_by(&certificate))
            .then_some(Self { certificate, key })
    }

    /// A certificate for a new key.
    pub fn issue(&self, template: &Template, now: Timestamp) -> (Certificate, PrivateKey) {
        let key = PrivateKey::generate();
        let subject = der::name(&template.common_name, &template.organizations);
        (self.certify(template, &subject, &key.public_info(), now), key)
    }

    /// A certificate for someone else's key and subject, both in DER. It never outlives the authority's own.
    pub(crate) fn certify(
        &self,
        template: &Template,
        subject: &[u8],
        public_info: &[u8],
        now: Timestamp,
    ) -> Certificate {
        let mut extensions = Vec::new();
        if template.usages != 0 {
            extensions.push(der::extension(der::KEY_USAGE, true, &der::named_bits(template.usages)));
        }
        if !template.purposes.is_empty() {
            let purposes: Vec<_> = template.purposes.iter().map(|purpose| der::oid(purpose)).collect();
            extensions.push(der::extension(
                der::EXTENDED_KEY_USAGE,
                false,
                &der::sequence(&purposes),
            ));
        }
        extensions.push(der::extension(
            der::BASIC_CONSTRAINTS,
            true,
            &der::sequence::<&[u8]>(&[]),
        ));
        extensions.push(der::extension(
            der::AUTHORITY_KEY_ID,
            false,
            &der::sequence(&[der::tlv(0x80, &key_id(&self.certificate.public_info))]),
        ));
        if !template.names.is_empty() {
            let names: Vec<_> = template.names.iter().map(alt_name).collect();
            extensions.push(der::extension(der::SUBJECT_ALT_NAME, false, &der::sequence(&names)));
        }
        let end = (now + template.life.unwrap_or(LEAF_LIFE)).min(self.certificate.not_after);
        assemble(
            &self.key,
            &self.certificate.subject,
            subject,
            public_info,
            (now - BACKDATE, end),
            &extensions,
        )
    }
}

pub(crate) fn alt_name(name: &AltName) -> Vec<u8> {
    match name {
        AltName::Email(text) => der::tlv(0x81, text.as_bytes()),
        AltName::Dns(text) => der::tlv(0x82, text.as_bytes()),
        AltName::Uri(text) => der::tlv(0x86, text.as_bytes()),
        AltName::Ip(IpAddr::V4(address)) => der::tlv(0x87, &address.octets()),
        AltName::Ip(IpAddr::V6(address)) => der::tlv(0x87, &address.octets()),
    }
}

/// RFC 7093, method 1.
fn key_id(public_info: &[u8]) -> [u8; 20] {
    let mut id = [0; 20];
    id.copy_from_slice(&digest(&SHA256, public_info).as_ref()[..20]);
    id
}

fn assemble(
    key: &PrivateKey,
    issuer: &[u8],
    subject: &[u8],
    public_info: &[u8],
    (from, to): (Timestamp, Timestamp),
    extensions: &[Vec<u8>],
) -> Certificate {
    let mut serial = [0; 16];
    SystemRandom::new()
        .fill(&mut serial)
        .expect("the system has randomness");
    let algorithm = der::sequence(&[der::oid(der::ECDSA_WITH_SHA256)]);
    let body = der::sequence(&[
        &der::tlv(0xa0, &der::unsigned(&[2]))[..],
        &der::unsigned(&serial),
        &algorithm,
        issuer,
        &der::sequence(&[der::time(from), der::time(to)]),
        subject,
        public_info,
        &der::tlv(0xa3, &der::sequence(extensions)),
    ]);
    let signature = key.sign(&body);
    let whole = der::sequence(&[body, algorithm, der::bits(&signature)]);
    Certificate::from_der(whole.into()).expect("a certificate just made can be read")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{RootCertStore, pki_types::UnixTime, server::WebPkiClientVerifier};

    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn verify(certificate: &Certificate, roots: &Certificate, at: Timestamp) -> Result<(), rustls::Error> {
        let mut store = RootCertStore::empty();
        store.add(roots.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(store.into(), provider)
            .build()
            .unwrap();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.as_second() as u64));
        verifier.verify_client_cert(certificate.der(), &[], at).map(drop)
    }

    #[test]
    fn a_client_certificate_names_the_user_and_every_group() {
        let authority = Authority::generate("bosun-ca", now());
        let groups: Vec<String> = ["a", "b", "c"].map(Into::into).into();
        let (certificate, key) = authority.issue(&Template::client("jane", &groups), now());
        assert_eq!(certificate.common_name, "jane");
        assert_eq!(certificate.organizations, groups);
        assert_eq!(certificate.public_info, key.public_info());
        assert!(!certificate.is_ca);
        assert!(certificate.is_signed_by(&authority.certificate));
        verify(&certificate, &authority.certificate, now()).unwrap();
    }

    #[test]
    fn another_authority_and_other_times_are_refused() {
        let authority = Authority::generate("bosun-ca", now());
        let other = Authority::generate("bosun-ca", now());
        let (certificate, _) = authority.issue(&Template::client("jane", &[]), now());
        assert!(!certificate.is_signed_by(&other.certificate));
        verify(&certificate, &other.certificate, now()).unwrap_err();
        verify(&certificate, &authority.certificate, now() + LEAF_LIFE + BACKDATE).unwrap_err();
        verify(&certificate, &authority.certificate, now() - BACKDATE - BACKDATE).unwrap_err();
        let (server, _) = authority.issue(&Template::server("x", &["x".into()]), now());
        verify(&server, &authority.certificate, now()).unwrap_err();
    }

    #[test]
    fn a_renewed_authority_vouches_for_what_the_former_signed() {
        let old = Authority::generate("bosun-ca", now());
        let (certificate, _) = old.issue(&Template::client("jane", &[]), now());
        let key = PrivateKey::from_pkcs8(old.key.secret_pkcs8()).unwrap();
        let new = Authority::over(key, "bosun-ca", now() + LEAF_LIFE / 2);
        verify(&certificate, &new.certificate, now() + LEAF_LIFE / 2).unwrap();
    }

    #[test]
    fn nothing_outlives_the_authority() {
        let authority = Authority::generate("bosun-ca", now());
        let late = now() + AUTHORITY_LIFE - SignedDuration::from_hours(24);
        let (certificate, _) = authority.issue(&Template::client("jane", &[]), late);
        assert_eq!(certificate.not_after, authority.certificate.not_after);
    }

    #[test]
    fn a_serving_certificate_holds_names_and_addresses() {
        let authority = Authority::generate("bosun-ca", now());
        let names: Vec<String> = ["kubernetes", "10.96.0.1", "fd00::1"].map(Into::into).into();
        let (certificate, _) = authority.issue(&Template::server("kube-apiserver", &names), now());
        assert_eq!(certificate.names, names);
    }

    #[test]
    fn only_an_authoritys_own_parts_make_one() {
        let authority = Authority::generate("bosun-ca", now());
        let (leaf, key) = authority.issue(&Template::client("jane", &[]), now());
        assert!(Authority::from_parts(leaf, key).is_none(), "a leaf");
        assert!(
            Authority::from_parts(authority.certificate, PrivateKey::generate()).is_none(),
            "another key"
        );
    }
}
