//! The server's own life: what it says when it can't start, and what is left when it is killed.

use anyhow::{Context, ensure};
use bosun_testkit::{
    PATIENCE, Server, eventually,
    programs::{built, run},
    server::Client,
};
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let client = server.client()?;
    let path = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "correct horse"}});
    ensure!(client.json(Method::POST, path, &secret).await?.status == 201);
    server.kill().await?;
    server.run().await?;
    let client = server.client()?;
    let found = client.get(&format!("{path}/s"), &[]).await?.json()?;
    ensure!(found["data"]["password"] == "Y29ycmVjdCBob3JzZQ==", "{found}");
    // Nowhere on the disk can it be read.
    for entry in std::fs::read_dir(server.data_dir().join("server/store"))? {
        let bytes = std::fs::read(entry?.path())?;
        let plain = [b"correct horse".as_slice(), b"Y29ycmVjdCBob3JzZQ"];
        let leaks = plain
            .iter()
            .any(|text| bytes.windows(text.len()).any(|window| window == *text));
        ensure!(!leaks, "the Secret lies in the open");
    }
    Ok(())
}

#[tokio::test]
async fn who_did_what_is_written_down_and_no_secrets() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let client = server.client()?;
    let path = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "correct horse"}});
    ensure!(client.json(Method::POST, path, &secret).await?.status == 201);
    ensure!(client.get("/readyz", &[]).await?.status == 200);
    server.stop().await?;
    let log = std::fs::read_to_string(server.data_dir().join("server/audit/audit.log"))?;
    let events: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let found = events
        .iter()
        .find(|event| event["requestURI"] == path && event["verb"] == "create");
    let event = found.expect("the request is in the log");
    ensure!(
        event["user"]["username"] == "kubernetes-admin" && event["responseStatus"]["code"] == 201,
        "{event}"
    );
    ensure!(
        event["objectRef"] == json!({"resource": "secrets", "namespace": "default", "apiVersion": "v1"}),
        "{event}"
    );
    ensure!(
        event["annotations"]["authorization.k8s.io/decision"] == "allow",
        "{event}"
    );
    ensure!(!log.contains("password") && !events.iter().any(|event| event["requestURI"] == "/readyz"));
    Ok(())
}

#[tokio::test]
async fn a_user_with_a_certificate_may_what_roles_say() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let data = server.data_dir().to_string_lossy().into_owned();
    let url = format!("https://{}", server.address());
    let flags = [
        "kubeconfig",
        "--user",
        "jane",
        "--group",
        "dev",
        "--data-dir",
        &data,
        "--server",
        &url,
    ];
    let config = run(&built("bosun")?, flags).await?;
    let file = server.file("jane.kubeconfig", &config)?.to_string_lossy().into_owned();
    let can = ["--kubeconfig", &file, "auth", "can-i", "create", "configmaps"];
    let before = server.try_kubectl(can).await?;
    ensure!(String::from_utf8_lossy(&before.stdout) == "no\n", "{before:?}");
    let bind = "create rolebinding dev --clusterrole=edit --group=dev";
    server.kubectl(bind.split_whitespace()).await?;
    eventually(PATIENCE, "the binding counts", async || {
        let after = server.try_kubectl(can).await?;
        ensure!(String::from_utf8_lossy(&after.stdout) == "yes\n", "{after:?}");
        Ok(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_start_that_can_not_be_says_why_and_what_to_do() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let port = server.address().port().to_string();
    let dir = tempfile::tempdir()?;
    let data = dir.path().to_string_lossy().into_owned();
    let policy = dir.path().join("policy.yaml");
    std::fs::write(&policy, "kind: Pod")?;
    let policy = policy.to_string_lossy().into_owned();
    for (flags, words) in [
        (
            vec![
                "--no-agent",
                "--data-dir",
                &data,
                "--bind",
                "127.0.0.1",
                "--port",
                &port,
            ],
            "--port",
        ),
        (
            vec!["--no-agent", "--data-dir", &data, "--bind", "192.0.2.1", "--port", "0"],
            "--bind",
        ),
        (
            vec![
                "--no-agent",
                "--data-dir",
                "/proc/nowhere",
                "--bind",
                "127.0.0.1",
                "--port",
                "0",
            ],
            "--data-dir",
        ),
        (
            vec![
                "--no-agent",
                "--data-dir",
                &data,
                "--bind",
                "127.0.0.1",
                "--port",
                "0",
                "--audit-policy",
                &policy,
            ],
            "audit.k8s.io/v1",
        ),
    ] {
        let error = run(&built("bosun")?, ["server"].into_iter().chain(flags.iter().copied())).await;
        let said = format!("{:#}", error.expect_err("it must not start"));
        ensure!(said.contains(words), "{flags:?}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn secrets_are_encrypted_anew_after_a_new_key_is_made() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let path = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "correct horse"}});
    ensure!(server.client()?.json(Method::POST, path, &secret).await?.status == 201);
    server.stop().await?;
    let data = server.data_dir().to_string_lossy().into_owned();
    let said = run(&built("bosun")?, ["rotate-encryption-key", "--data-dir", &data]).await?;
    let key = said.split_whitespace().nth(1).unwrap_or_default().to_owned();
    server.run().await?;
    let sealed = eventually(PATIENCE, "the log says so", async || {
        let log = server.log_text();
        let line = log
            .lines()
            .find(|line| line.contains("is encrypted with the present one"));
        Ok(line.context("no such line")?.to_owned())
    });
    sealed.await;
    let file = server.data_dir().join("server/pki/encryption.json");
    let mut keys: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    ensure!(keys["keys"][0]["id"] == key.as_str(), "{said}");
    // The former key may go.
    server.stop().await?;
    keys["keys"].as_array_mut().context("keys")?.truncate(1);
    std::fs::write(&file, keys.to_string())?;
    server.run().await?;
    let read = server.client()?.get(&format!("{path}/s"), &[]).await?.json()?;
    ensure!(read["data"]["password"] == "Y29ycmVjdCBob3JzZQ==", "{read}");
    Ok(())
}

#[tokio::test]
async fn a_damaged_store_is_salvaged_and_the_rest_of_it_served() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let client = server.client()?;
    let path = "/api/v1/namespaces/default/configmaps";
    for name in ["a", "b"] {
        let map = json!({"metadata": {"name": name}, "data": {"text": format!("needle {name} {}", "x".repeat(900))}});
        ensure!(client.json(Method::POST, path, &map).await?.status == 201);
    }
    let store = server.data_dir().join("server/store/store.db");
    let needle = |bytes: &[u8]| bytes.windows(8).position(|window| window == b"needle b");
    let written = eventually(PATIENCE, "it is in the store's main file", async || {
        needle(&std::fs::read(&store)?).context("no such value")
    });
    written.await;
    server.stop().await?;
    let mut bytes = std::fs::read(&store)?;
    // A page that was split may hold it, too, in what is free.
    while let Some(at) = needle(&bytes) {
        bytes[at] = b'#';
    }
    std::fs::write(&store, bytes)?;
    let refused = format!("{:#}", server.run().await.expect_err("it must not start"));
    ensure!(
        refused.contains("bosun salvage") && refused.contains("configmaps"),
        "{refused}"
    );
    let data = server.data_dir().to_string_lossy().into_owned();
    let said = run(&built("bosun")?, ["salvage", "--data-dir", &data]).await?;
    ensure!(
        said.contains("configmaps/default/b") && !said.contains("configmaps/default/a"),
        "{said}"
    );
    // What did not start is still its process.
    server.kill().await?;
    server.run().await?;
    let client = server.client()?;
    ensure!(client.get(&format!("{path}/a"), &[]).await?.status == 200);
    ensure!(client.get(&format!("{path}/b"), &[]).await?.status == 404);
    let map = json!({"metadata": {"name": "b"}});
    ensure!(client.json(Method::POST, path, &map).await?.status == 201);
    Ok(())
}

#[tokio::test]
async fn a_bootstrap_token_is_made_listed_and_deleted() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let kubeconfig = server.kubeconfig();
    let bosun = async |arguments: &[&str]| {
        let mut all = vec!["token"];
        all.extend_from_slice(arguments);
        let kubeconfig = kubeconfig.to_string_lossy();
        all.extend(["--kubeconfig", &kubeconfig]);
        run(&built("bosun")?, all).await
    };
    let token = bosun(&["create"]).await?;
    let (id, _) = token.trim().split_once('.').expect("an id and a secret");
    ensure!(bosun(&["list"]).await?.contains(id), "{token} is not listed");
    let secret = server
        .kubectl([
            "get",
            "secret",
            "-n",
            "kube-system",
            &format!("bootstrap-token-{id}"),
            "-o",
            "name",
        ])
        .await?;
    ensure!(secret.contains(id), "{secret}");
    bosun(&["delete", id]).await?;
    ensure!(!bosun(&["list"]).await?.contains(id), "{token} is still listed");
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_refused_at_the_door_is_written_down_too() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let path = "/api/v1/namespaces/default/configmaps";
    let bearer = [("authorization", "Bearer of.no.one")];
    ensure!(server.stranger()?.get(path, &bearer).await?.status == 401);
    let url = format!("https://{}", server.address());
    let data = server.data_dir().to_string_lossy().into_owned();
    let flags = ["kubeconfig", "--user", "jane", "--data-dir", &data, "--server", &url];
    let config = run(&built("bosun")?, flags).await?;
    let jane = server.file("jane.kubeconfig", &config)?;
    let jane = Client::new(&jane, server.address(), true)?;
    let other = "/api/v1/namespaces/default/secrets";
    ensure!(jane.get(other, &[("impersonate-user", "admin")]).await?.status == 403);
    server.stop().await?;
    let log = std::fs::read_to_string(server.data_dir().join("server/audit/audit.log"))?;
    let events: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let refused = events.iter().find(|event| event["requestURI"] == path);
    ensure!(
        refused.is_some_and(|event| event["responseStatus"]["code"] == 401),
        "{refused:?}"
    );
    let refused = events.iter().find(|event| event["requestURI"] == other);
    ensure!(
        refused.is_some_and(|event| event["responseStatus"]["code"] == 403 && event["user"]["username"] == "jane"),
        "{refused:?}"
    );
    Ok(())
}
