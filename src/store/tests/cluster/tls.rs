//! etcd behind TLS that wants to know its clients.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use bosun_store::{
    Error, Etcd, Store,
    etcd::{Options, Tls},
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tokio::process::Command;

use crate::{
    contract::{PATIENCE, just, key, put},
    etcd::free_port,
};

struct Authority(Certificate, Issuer<'static, KeyPair>);

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Authority(certificate, Issuer::new(params, key))
}

/// A certificate and its key, PEM.
fn issue(authority: &Authority, name: &str) -> (Vec<u8>, Vec<u8>) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.1).unwrap();
    (certificate.pem().into(), key.serialize_pem().into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_spoken_to_by_tls_and_only_by_those_it_knows() {
    let (ours, theirs) = (authority(), authority());
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (certificate, secret) = issue(&ours, "etcd.test");
    let (certificate, secret) = (write("cert.pem", &certificate), write("key.pem", &secret));
    let ca = write("ca.pem", ours.0.pem().as_bytes());
    let url = format!("https://127.0.0.1:{}", free_port().unwrap());
    let peer = format!("http://127.0.0.1:{}", free_port().unwrap());
    let mut server = Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.path().join("etcd"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .args(["--logger", "zap", "--log-level", "error", "--client-cert-auth"])
        .arg("--cert-file")
        .arg(certificate)
        .arg("--key-file")
        .arg(secret)
        .arg("--trusted-ca-file")
        .arg(ca)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("etcd starts: install the Debian package etcd-server");
    let options = |ca: &Authority, identity| Options {
        tls: Some(Tls {
            ca: Some(ca.0.pem().into()),
            identity,
            name: Some("etcd.test".to_owned()),
        }),
        deadline: Duration::from_secs(2),
        ..Options::new([&url])
    };
    let start = Instant::now();
    let store = loop {
        match Etcd::open(options(&ours, Some(issue(&ours, "server.test")))).await {
            Ok(store) => break store,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    store.commit(just([put("/a", "1")])).await.unwrap();
    assert!(store.get(key("/a")).await.unwrap().is_some());
    let table = [
        (
            "another authority's server",
            options(&theirs, Some(issue(&ours, "server.test"))),
        ),
        (
            "another authority's client",
            options(&ours, Some(issue(&theirs, "server.test"))),
        ),
        ("an unknown client", options(&ours, None)),
    ];
    for (name, options) in table {
        let opened = Etcd::open(options).await;
        assert!(matches!(opened, Err(Error::Unavailable(_))), "{name}: {opened:?}");
    }
    server.kill().await.unwrap();
}
