//! What Kubernetes' own signers sign (the rules are of the public documentation of certificate signing requests): a
//! request's subject and key are copied as they came; names and usages are taken only where the signer allows them;
//! everything else it asks for is left out. Nobody becomes an authority this way.

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use crate::{
    Authority, Certificate, Template,
    authority::{AltName, LEAF_LIFE, purpose, usage},
    certificate::{address, subject},
};

/// For clients of the API server; nothing is approved by itself.
pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// For nodes as clients of the API server.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// For nodes as servers.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// For anything; trusted by nobody in particular.
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

/// The group of nodes.
const NODES: &str = "system:nodes";
/// How nodes' names as users begin.
const NODE_PREFIX: &str = "system:node:";
/// The shortest time that can be asked for.
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);

/// A certificate signing request (RFC 2986) whose signature shows that whoever made it holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRequest {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations.
    pub organizations: Vec<String>,
    /// The alternative names it asks for.
    pub names: Vec<AltName>,
    subject: Vec<u8>,
    public_info: Vec<u8>,
}

/// Why a request is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Not a PEM block `CERTIFICATE REQUEST` with a whole request in it.
    #[error("unable to parse csr: {0}")]
    Malformed(String),
    /// The signature doesn't fit the key.
    #[error("csr is not signed by its own key")]
    Signature,
    /// The signer's name is not one of those here.
    #[error("no signer {0:?} here")]
    UnknownSigner(String),
    /// The signer doesn't sign such.
    #[error("{0}")]
    Refused(String),
}

impl SigningRequest {
    /// Parses `spec.request`: PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SignError> {
        let malformed = |why: String| SignError::Malformed(why);
        let der = CertificateSigningRequestDer::from_pem_slice(pem).map_err(|error| malformed(error.to_string()))?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("bytes follow it".into()));
        }
        request.verify_signature().map_err(|_| SignError::Signature)?;
        let info = &request.certification_request_info;
        let (common_name, organizations) = subject(&info.subject).map_err(|why| malformed(why.into()))?;
        let mut names = Vec::new();
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(alternatives) = extension {
                for name in &alternatives.general_names {
                    names.push(alt_name(name).ok_or_else(|| malformed("an alternative name of another kind".into()))?);
                }
            }
        }
        Ok(Self {
            common_name,
            organizations,
            names,
            subject: info.subject.as_raw().to_vec(),
            public_info: info.subject_pki.raw.to_vec(),
        })
    }
}

fn alt_name(name: &GeneralName<'_>) -> Option<AltName> {
    Some(match name {
        GeneralName::DNSName(text) => AltName::Dns((*text).to_owned()),
        GeneralName::RFC822Name(text) => AltName::Email((*text).to_owned()),
        GeneralName::URI(text) => AltName::Uri((*text).to_owned()),
        GeneralName::IPAddress(bytes) => AltName::Ip(address(bytes)?),
        _ => return None,
    })
}

/// Signs a request as `signer` does. `usages` are those of the object's `spec.usages`; `life` its `expirationSeconds`.
pub fn sign(
    authority: &Authority,
    signer: &str,
    request: &SigningRequest,
    usages: &[String],
    life: Option<SignedDuration>,
    now: Timestamp,
) -> Result<Certificate, SignError> {
    permits(signer, request, usages)?;
    let mut template = Template {
        names: request.names.clone(),
        life: Some(life.unwrap_or(LEAF_LIFE).clamp(SHORTEST, LEAF_LIFE)),
        ..Template::default()
    };
    for name in usages {
        match usage_of(name) {
            Some(Use::Key(bit)) => template.usages |= bit,
            Some(Use::Extended(purpose)) => template.purposes.push(purpose),
            None => return Err(SignError::Refused(format!("unrecognized usage {name:?}"))),
        }
    }
    Ok(authority.certify(&template, &request.subject, &request.public_info, now))
}

/// Whether `signer` signs such a request at all.
pub fn permits(signer: &str, request: &SigningRequest, usages: &[String]) -> Result<(), SignError> {
    let refuse = |why: &str| Err(SignError::Refused(why.to_owned()));
    let only = |needed: &[&str], allowed: &[&str]| {
        let has = |usage: &&str| usages.iter().any(|given| given == usage);
        if needed.iter().all(has) && usages.iter().all(|usage| allowed.contains(&usage.as_str())) {
            Ok(())
        } else {
            Err(SignError::Refused(format!("usages did not match {allowed:?}")))
        }
    };
    let is_node = || {
        if request.organizations != [NODES] {
            return refuse("subject organization is not system:nodes");
        }
        if !request.common_name.starts_with(NODE_PREFIX) {
            return refuse("subject common name does not begin with system:node:");
        }
        Ok(())
    };
    match signer {
        API_CLIENT => only(
            &["client auth"],
            &["client auth", "digital signature", "key encipherment"],
        ),
        KUBELET_CLIENT => {
            is_node()?;
            if !request.names.is_empty() {
                return refuse("subjectAltNames are not allowed");
            }
            only(
                &["client auth", "digital signature"],
                &["client auth", "digital signature", "key encipherment"],
            )
        }
        KUBELET_SERVING => {
            is_node()?;
            if request.names.is_empty() {
                return refuse("DNS or IP subjectAltName is required");
            }
            for name in &request.names {
                match name {
                    AltName::Dns(_) | AltName::Ip(_) => {}
                    AltName::Email(_) => return refuse("Email subjectAltNames are not allowed"),
                    AltName::Uri(_) => return refuse("URI subjectAltNames are not allowed"),
                }
            }
            only(
                &["server auth", "digital signature"],
                &["server auth", "digital signature", "key encipherment"],
            )
        }
        LEGACY_UNKNOWN => {
            if usages.iter().any(|usage| usage == "cert sign" || usage == "crl sign") {
                return refuse("certificates of authorities are not signed");
            }
            Ok(())
        }
        other => Err(SignError::UnknownSigner(other.to_owned())),
    }
}

enum Use {
    Key(u16),
    Extended(&'static [u8]),
}

/// `certificates.k8s.io` `KeyUsage`s.
fn usage_of(name: &str) -> Option<Use> {
    Some(match name {
        "signing" | "digital signature" => Use::Key(usage::DIGITAL_SIGNATURE),
        "content commitment" => Use::Key(usage::CONTENT_COMMITMENT),
        "key encipherment" => Use::Key(usage::KEY_ENCIPHERMENT),
        "key agreement" => Use::Key(usage::KEY_AGREEMENT),
        "data encipherment" => Use::Key(usage::DATA_ENCIPHERMENT),
        "cert sign" => Use::Key(usage::CERT_SIGN),
        "crl sign" => Use::Key(usage::CRL_SIGN),
        "encipher only" => Use::Key(usage::ENCIPHER_ONLY),
        "decipher only" => Use::Key(usage::DECIPHER_ONLY),
        "any" => Use::Extended(purpose::ANY),
        "server auth" => Use::Extended(purpose::SERVER_AUTH),
        "client auth" => Use::Extended(purpose::CLIENT_AUTH),
        "code signing" => Use::Extended(purpose::CODE_SIGNING),
        "email protection" | "s/mime" => Use::Extended(purpose::EMAIL_PROTECTION),
        "ipsec end system" => Use::Extended(purpose::IPSEC_END_SYSTEM),
        "ipsec tunnel" => Use::Extended(purpose::IPSEC_TUNNEL),
        "ipsec user" => Use::Extended(purpose::IPSEC_USER),
        "timestamping" => Use::Extended(purpose::TIME_STAMPING),
        "ocsp signing" => Use::Extended(purpose::OCSP_SIGNING),
        "microsoft sgc" => Use::Extended(purpose::MICROSOFT_SGC),
        "netscape sgc" => Use::Extended(purpose::NETSCAPE_SGC),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType};

    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn request(common_name: &str, organization: &str, names: &[SanType], key: &KeyPair) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if !organization.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names.to_vec();
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    fn usages(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// Signer, common name, organization, alternative names, usages; why it is refused.
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [SanType], &'a [&'a str], Option<&'a str>);

    #[test]
    fn each_signer_has_its_rules() {
        let key = KeyPair::generate().unwrap();
        let dns = SanType::DnsName("node-1".try_into().unwrap());
        let mail = SanType::Rfc822Name("a@b".try_into().unwrap());
        let uri = SanType::URI("spiffe://x".try_into().unwrap());
        let client = ["client auth", "digital signature"];
        let server = ["server auth", "digital signature", "key encipherment"];
        let node = "system:node:node-1";
        let cases: [Case<'_>; 16] = [
            (API_CLIENT, "jane", "devs", &[], &["client auth"], None),
            (
                API_CLIENT,
                "jane",
                "devs",
                &[],
                &["server auth"],
                Some("usages did not match"),
            ),
            (
                API_CLIENT,
                "jane",
                "devs",
                &[],
                &["client auth", "cert sign"],
                Some("usages did not match"),
            ),
            (KUBELET_CLIENT, node, "system:nodes", &[], &client, None),
            (
                KUBELET_CLIENT,
                "jane",
                "system:nodes",
                &[],
                &client,
                Some("does not begin with system:node:"),
            ),
            (
                KUBELET_CLIENT,
                node,
                "system:masters",
                &[],
                &client,
                Some("organization is not system:nodes"),
            ),
            (
                KUBELET_CLIENT,
                node,
                "",
                &[],
                &client,
                Some("organization is not system:nodes"),
            ),
            (
                KUBELET_CLIENT,
                node,
                "system:nodes",
                std::slice::from_ref(&dns),
                &client,
                Some("not allowed"),
            ),
            (
                KUBELET_CLIENT,
                node,
                "system:nodes",
                &[],
                &server,
                Some("usages did not match"),
            ),
            (
                KUBELET_SERVING,
                node,
                "system:nodes",
                std::slice::from_ref(&dns),
                &server,
                None,
            ),
            (KUBELET_SERVING, node, "system:nodes", &[], &server, Some("is required")),
            (
                KUBELET_SERVING,
                node,
                "system:nodes",
                std::slice::from_ref(&mail),
                &server,
                Some("Email"),
            ),
            (
                KUBELET_SERVING,
                node,
                "system:nodes",
                std::slice::from_ref(&uri),
                &server,
                Some("URI"),
            ),
            (LEGACY_UNKNOWN, "x", "", &[], &["any"], None),
            (LEGACY_UNKNOWN, "x", "", &[], &["cert sign"], Some("authorities")),
            ("example.com/own", "x", "", &[], &["any"], Some("no signer")),
        ];
        let authority = Authority::generate("bosun-ca", now());
        for (signer, name, group, names, wanted, refusal) in cases {
            let request = SigningRequest::from_pem(request(name, group, names, &key).as_bytes()).unwrap();
            let signed = sign(&authority, signer, &request, &usages(wanted), None, now());
            match (signed, refusal) {
                (Ok(certificate), None) => {
                    assert_eq!(certificate.common_name, name);
                    assert!(certificate.is_signed_by(&authority.certificate) && !certificate.is_ca);
                }
                (Err(error), Some(why)) => assert!(error.to_string().contains(why), "{signer} {name}: {error}"),
                (other, _) => panic!("{signer} {name} {group}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_authoritys_request_becomes_a_plain_certificate() {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        let request = SigningRequest::from_pem(pem.as_bytes()).unwrap();
        let authority = Authority::generate("bosun-ca", now());
        let signed = sign(&authority, API_CLIENT, &request, &usages(&["client auth"]), None, now()).unwrap();
        assert!(!signed.is_ca);
    }

    #[test]
    fn keys_of_other_kinds_are_copied_as_they_are() {
        let authority = Authority::generate("bosun-ca", now());
        for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let request = SigningRequest::from_pem(request("x", "", &[], &key).as_bytes()).unwrap();
            let signed = sign(&authority, LEGACY_UNKNOWN, &request, &[], None, now()).unwrap();
            assert_eq!(signed.public_info, request.public_info);
        }
    }

    #[test]
    fn the_time_asked_for_is_kept_within_bounds() {
        let key = KeyPair::generate().unwrap();
        let request = SigningRequest::from_pem(request("x", "", &[], &key).as_bytes()).unwrap();
        let authority = Authority::generate("bosun-ca", now());
        let hours = SignedDuration::from_hours;
        for (asked, given) in [
            (None, LEAF_LIFE),
            (Some(hours(24)), hours(24)),
            (Some(hours(9 * 365 * 24)), LEAF_LIFE),
            (Some(SignedDuration::from_secs(1)), SHORTEST),
        ] {
            let signed = sign(&authority, LEGACY_UNKNOWN, &request, &[], asked, now()).unwrap();
            assert_eq!(signed.not_after, now() + given);
        }
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let (one, two) = (
            request("a", "", &[], &KeyPair::generate().unwrap()),
            request("a", "", &[], &KeyPair::generate().unwrap()),
        );
        let der = |pem: &str| {
            CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
                .unwrap()
                .to_vec()
        };
        // The signature is the last 64-odd bytes: swapping the halves of two requests of equal length parts it from
        // its key.
        let (one, two) = (der(&one), der(&two));
        let mixed: Vec<u8> = one[..one.len() - 80]
            .iter()
            .chain(&two[two.len() - 80..])
            .copied()
            .collect();
        assert!(SigningRequest::from_pem(crate::key::pem("CERTIFICATE REQUEST", &mixed).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(SigningRequest::from_pem(&bytes).is_err());
            prop_assert!(SigningRequest::from_pem(crate::key::pem("CERTIFICATE REQUEST", &bytes).as_bytes()).is_err());
        }

        #[test]
        fn a_damaged_request_is_refused_without_a_panic(at in 0usize..10_000, bit in 0u8..8) {
            let pem = request("x", "y", &[], &KeyPair::generate().unwrap());
            let mut der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
            let at = at % der.len();
            der[at] ^= 1 << bit;
            // A flipped bit may fall where nobody looks (a tag's class in an attribute): what must hold is that the
            // subject and key were signed for.
            let _ = SigningRequest::from_pem(crate::key::pem("CERTIFICATE REQUEST", &der).as_bytes());
        }
    }
}
