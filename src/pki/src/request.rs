//! Certificate signing requests (RFC 2986) for keys of our own; those of others are read by [`signer`](crate::signer).

use crate::{
    PrivateKey,
    authority::{AltName, alt_name},
    der,
    key::pem,
};

/// A request for a certificate over `key`, in PEM as `spec.request` of a `CertificateSigningRequest` holds it.
pub fn signing_request(key: &PrivateKey, common_name: &str, organizations: &[String], names: &[AltName]) -> String {
    let attributes = if names.is_empty() {
        Vec::new()
    } else {
        let names: Vec<_> = names.iter().map(alt_name).collect();
        let extension = der::extension(der::SUBJECT_ALT_NAME, false, &der::sequence(&names));
        der::sequence(&[der::oid(der::EXTENSION_REQUEST), der::set(&der::sequence(&[extension]))])
    };
    let body = der::sequence(&[
        der::unsigned(&[0]),
        der::name(common_name, organizations),
        key.public_info(),
        der::tlv(0xa0, &attributes),
    ]);
    let signature = key.sign(&body);
    let algorithm = der::sequence(&[der::oid(der::ECDSA_WITH_SHA256)]);
    pem(
        "CERTIFICATE REQUEST",
        &der::sequence(&[body, algorithm, der::bits(&signature)]),
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        Authority,
        signer::{KUBELET_CLIENT, KUBELET_SERVING, SigningRequest, sign},
    };

    #[test]
    fn the_signers_sign_what_a_node_asks_for() {
        let authority = Authority::generate("bosun-ca", Timestamp::UNIX_EPOCH);
        let key = PrivateKey::generate();
        let names = [
            AltName::Dns("node-1".into()),
            AltName::Ip([192, 0, 2, 7].into()),
            AltName::Ip("fd00::7".parse().unwrap()),
        ];
        for (signer, names, purpose) in [
            (KUBELET_CLIENT, &[][..], "client auth"),
            (KUBELET_SERVING, &names[..], "server auth"),
        ] {
            let pem = signing_request(&key, "system:node:node-1", &["system:nodes".into()], names);
            let request = SigningRequest::from_pem(pem.as_bytes()).unwrap();
            assert_eq!(request.common_name, "system:node:node-1");
            assert_eq!(request.organizations, ["system:nodes"]);
            assert_eq!(request.names, names);
            let usages = ["digital signature".to_owned(), purpose.to_owned()];
            let signed = sign(&authority, signer, &request, &usages, None, Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!(signed.public_info, key.public_info());
        }
    }
}
