//! Who one is, and what one may: certificates, tokens, impersonation, roles, admission.

use anyhow::{Context, ensure};
use bosun_testkit::Server;
use http::Method;
use serde_json::json;

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace()
}

/// What `kubectl` says when it is refused.
async fn refused(server: &Server, line: &str) -> anyhow::Result<String> {
    let output = server.try_kubectl(words(line)).await?;
    ensure!(!output.status.success(), "{line} was not refused");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn the_administrator_and_service_accounts_are_who_they_are() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let who = server.kubectl(words("auth whoami")).await?;
    ensure!(
        who.contains("kubernetes-admin") && who.contains("kubeadm:cluster-admins"),
        "{who}"
    );
    server.kubectl(words("create serviceaccount robot")).await?;
    let token = server.kubectl(words("create token robot --duration=10m")).await?;
    let bearer = format!("Bearer {}", token.trim());
    let stranger = server.stranger()?;
    let me = stranger
        .send(
            stranger
                .request(Method::POST, "/apis/authentication.k8s.io/v1/selfsubjectreviews")
                .header("authorization", &bearer)
                .header("content-type", "application/json")
                .body(
                    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
                        .to_string()
                        .into(),
                )?,
        )
        .await?;
    let name = &me.json()?["status"]["userInfo"]["username"];
    ensure!(name == "system:serviceaccount:default:robot", "{}", me.text());
    let pods = stranger
        .get("/api/v1/namespaces/default/pods", &[("authorization", &bearer)])
        .await?;
    let message = &pods.json()?["message"];
    ensure!(
        message
            == "pods is forbidden: User \"system:serviceaccount:default:robot\" cannot list resource \"pods\" in API group \
                \"\" in the namespace \"default\"",
        "{message}"
    );
    server.kubectl(words("delete serviceaccount robot")).await?;
    let gone = stranger.get("/api", &[("authorization", &bearer)]).await?;
    ensure!(gone.status == 401, "{}", gone.text());
    Ok(())
}

#[tokio::test]
async fn nobody_sees_only_whether_the_server_lives_and_what_joining_takes() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let stranger = server.stranger()?;
    for (path, status) in [
        ("/healthz", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/api/v1/namespaces/kube-public/configmaps/cluster-info", 200),
        ("/api/v1/namespaces/kube-public/configmaps", 401),
        ("/api", 401),
        ("/version", 401),
        ("/metrics", 401),
    ] {
        let reply = stranger.get(path, &[]).await?;
        ensure!(reply.status == status, "{path}: {}", reply.text());
        let wrong = stranger.get(path, &[("authorization", "Bearer wrong")]).await?;
        ensure!(wrong.status == 401, "{path} with a wrong token: {}", wrong.text());
    }
    Ok(())
}

#[tokio::test]
async fn roles_give_and_nobody_gives_more_than_they_have() -> anyhow::Result<()> {
    let server = Server::start().await?;
    ensure!(
        refused(&server, "get pods --as=jane")
            .await?
            .contains("User \"jane\" cannot list resource \"pods\"")
    );
    server
        .kubectl(words(
            "create clusterrole giver --verb=create,get --resource=roles,rolebindings",
        ))
        .await?;
    server
        .kubectl(words("create clusterrolebinding giver --clusterrole=giver --user=jane"))
        .await?;
    // The index follows what is stored; its first answer may be a moment behind.
    let role = "create role taker --verb=get --resource=secrets --as=jane";
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    let said = loop {
        let said = refused(&server, role).await?;
        if said.contains("is attempting to grant") || tokio::time::Instant::now() > until {
            break said;
        }
    };
    ensure!(
        said.contains(
            "roles.rbac.authorization.k8s.io \"taker\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is \
             attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], \
             Verbs:[\"get\"]}"
        ),
        "{said}"
    );
    let may = server.try_kubectl(words("auth can-i create roles --as=jane")).await?;
    ensure!(may.stdout == b"yes\n", "{may:?}");
    Ok(())
}

#[tokio::test]
async fn pods_are_admitted_by_the_rules_of_their_namespace() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.kubectl(words("create namespace a")).await?;
    let run = |name: &str| format!("-n a run {name} --image=x");
    let said = refused(&server, &run("p")).await?;
    let missing = "error looking up service account a/default: serviceaccount \"default\" not found";
    ensure!(said.contains(missing), "{said}");
    server.kubectl(words("-n a create serviceaccount default")).await?;
    server.kubectl(words("-n a create quota q --hard=pods=1")).await?;
    server.kubectl(words(&run("p"))).await?;
    let volume = server
        .kubectl(["-n", "a", "get", "pod", "p", "-o", "jsonpath={.spec.volumes[0].name}"])
        .await?;
    ensure!(volume.starts_with("kube-api-access-"), "{volume}");
    let said = refused(&server, &run("q")).await?;
    let full = "pods \"q\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    ensure!(said.contains(full), "{said}");
    server
        .kubectl(words("-n a delete pod p --grace-period=0 --force"))
        .await?;
    server
        .kubectl(words(&run("q")))
        .await
        .context("the deleted pod's share is free")?;
    server
        .kubectl(words("label namespace a pod-security.kubernetes.io/enforce=restricted"))
        .await?;
    let said = refused(&server, &run("r")).await?;
    let violates =
        "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"r\" must set";
    ensure!(said.contains(violates), "{said}");
    Ok(())
}
