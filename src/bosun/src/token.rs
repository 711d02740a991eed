//! `bosun token`: what machines join with.

mod table;

use std::path::Path;

use anyhow::{Context, bail};
use bosun_client::connect::{Connection, Failure, Options, Trust, kubeconfig};
use bosun_pki::{
    Certificate,
    bootstrap::{BootstrapToken, CaHash, JoinToken, SECRET_PREFIX, SECRET_TYPE},
};
use clap::{Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use self::table::Listed;
use crate::{cli, output};

const EXAMPLES: &str = "\
A token lets machines join the cluster until it expires or is deleted; nodes that have joined need it no more. It \
carries a hash of the cluster's authority (ID.SECRET@sha256:...), so that a machine knows the right server before it \
tells it the secret.

Examples:
  bosun token create                              a token for a day, and the command that joins a machine with it
  bosun token create --ttl 1h --print-join-command
  bosun token list
  bosun token delete abcdef";

/// Make, list and delete the tokens that machines join with
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
    /// The administrator's kubeconfig
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/var/lib/bosun/server/admin.kubeconfig"
    )]
    kubeconfig: std::path::PathBuf,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token, and print the command that joins a machine with it
    Create(CreateArgs),
    /// List tokens, without their secrets
    List {
        /// How to show them
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Delete tokens: nobody joins with them any more
    Delete {
        /// Ids, the six letters and digits before the dot
        #[arg(required = true, value_name = "ID", value_parser = token_id)]
        ids: Vec<String>,
    },
}

#[derive(Args, Debug)]
struct CreateArgs {
    /// How long it holds, such as 30m or 48h; 0: until it is deleted
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = cli::duration)]
    ttl: std::time::Duration,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Groups of whoever comes with it, beside system:bootstrappers
    #[arg(
        long,
        value_name = "GROUP,...",
        value_delimiter = ',',
        default_value = "system:bootstrappers:kubeadm:default-node-token"
    )]
    groups: Vec<String>,
    /// What it is good for
    #[arg(long, value_name = "USAGE,...", value_delimiter = ',', value_enum, default_values_t = [Usage::Signing, Usage::Authentication])]
    usages: Vec<Usage>,
    /// Print the command alone
    #[arg(long, conflicts_with = "output")]
    print_join_command: bool,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// ID.SECRET, six and sixteen of a-z0-9 [default: made at random]
    token: Option<String>,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Usage {
    /// Machines know the cluster by its signature
    Signing,
    /// The server lets in whoever comes with it
    Authentication,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

fn token_id(text: &str) -> Result<String, String> {
    // The whole token is as good, as for kubeadm; its secret goes nowhere.
    let id = text.split_once('.').map_or(text, |(id, _)| id);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if id.len() == 6 && id.bytes().all(plain) {
        Ok(id.to_owned())
    } else {
        Err("an id is six lower case letters or digits".to_owned())
    }
}

/// Does what was asked.
pub(crate) async fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let path = &args.kubeconfig;
    let connection = Connection::from_kubeconfig(path, Options::default()).with_context(|| {
        format!(
            "using the administrator's kubeconfig {}: start 'bosun server' once, run this as who runs it, or name \
             another file with --kubeconfig",
            path.display()
        )
    })?;
    let client = connection.client();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    match &args.command {
        TokenCommand::Create(create) => {
            let cluster = cluster(&client, &connection, path).await?;
            output::print(&self::create(&secrets, create, &cluster, Timestamp::now()).await?)?;
        }
        TokenCommand::List { output } => {
            let params = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
            let found = secrets.list(&params).await.map_err(said("listing the tokens"))?;
            let listed: Vec<Listed> = found.iter().filter_map(Listed::read).collect();
            let now = Timestamp::now();
            output::print(&match output {
                Format::Text => table::text(&listed, now),
                Format::Json => pretty(&table::json(&listed)),
            })?;
        }
        TokenCommand::Delete { ids } => {
            for id in ids {
                let name = format!("{SECRET_PREFIX}{id}");
                let deleted = secrets.delete(&name, &DeleteParams::default()).await;
                deleted.map_err(said(&format!("deleting the token {id}")))?;
                output::print_line(&format!("token {id} deleted"))?;
            }
        }
    }
    Ok(())
}

/// What went wrong, by its step.
fn said(doing: &str) -> impl FnOnce(kube::Error) -> anyhow::Error {
    let doing = doing.to_owned();
    move |error| anyhow::Error::new(Failure::of(&error)).context(doing)
}

/// What a machine that joins must know.
struct Cluster {
    server: String,
    hash: Option<CaHash>,
}

/// As `cluster-info` says, which names the address that others reach the server at; else as the kubeconfig does.
async fn cluster(client: &Client, connection: &Connection, path: &Path) -> anyhow::Result<Cluster> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let info = maps
        .get_opt("cluster-info")
        .await
        .map_err(said("reading kube-public/cluster-info"))?;
    let text = info.and_then(|info| info.data?.remove("kubeconfig"));
    let access = match text {
        Some(text) => kubeconfig::parse(path, &text).context("reading kube-public/cluster-info")?,
        None => connection.access(),
    };
    let hash = match access.trust {
        Trust::Authorities(authorities) => match authorities.into_iter().next() {
            Some(der) => Some(CaHash::of(&Certificate::from_der(der)?)),
            None => None,
        },
        Trust::System | Trust::Anybody => None,
    };
    let server = access.server.to_string().trim_end_matches('/').to_owned();
    Ok(Cluster { server, hash })
}

async fn create(secrets: &Api<Secret>, args: &CreateArgs, cluster: &Cluster, now: Timestamp) -> anyhow::Result<String> {
    let token = match &args.token {
        Some(text) => text.parse()?,
        None => BootstrapToken::generate(),
    };
    let ttl = SignedDuration::try_from(args.ttl).context("--ttl is too long")?;
    let expires = (!ttl.is_zero()).then(|| now.checked_add(ttl)).transpose()?;
    let mut secret = token.to_secret(&args.description, expires, &args.groups);
    for (usage, key) in [
        (Usage::Signing, "usage-bootstrap-signing"),
        (Usage::Authentication, "usage-bootstrap-authentication"),
    ] {
        if !args.usages.contains(&usage) {
            secret["stringData"][key] = "false".into();
        }
    }
    let secret: Secret = serde_json::from_value(secret)?;
    let id = token.id.clone();
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {
            bail!(
                "a token with the id {id} is there already: delete it with 'bosun token delete {id}', or take another"
            )
        }
        Err(error) => return Err(said("making the token")(error)),
    }
    let token = JoinToken {
        token,
        authority: cluster.hash,
    };
    Ok(show(args, cluster, &token.secret_text(), &id, expires))
}

fn show(args: &CreateArgs, cluster: &Cluster, token: &str, id: &str, expires: Option<Timestamp>) -> String {
    let command = format!("bosun agent --server {} --token {token}", cluster.server);
    if args.print_join_command {
        return command + "\n";
    }
    match args.output {
        Format::Json => pretty(&json!({
            "id": id,
            "token": token,
            "server": cluster.server,
            "expires": expires.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            "command": command,
        })),
        // The token stands first, alone in its line, for scripts that take no more.
        Format::Text => {
            let until = expires.map_or_else(
                || "until it is deleted".to_owned(),
                |at| at.strftime("until %Y-%m-%d %H:%M:%S UTC").to_string(),
            );
            format!("{token}\n\nA machine joins with it, {until}, by\n\n  {command}\n")
        }
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TokenArgs,
    }

    fn parsed(line: &str) -> Result<TokenArgs, String> {
        let words = ["token"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words)
            .map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_token_stands_first_and_the_whole_command_after_it() {
        let cluster = Cluster {
            server: "https://192.0.2.7:6443".into(),
            hash: None,
        };
        let shown = |line: &str| {
            let TokenCommand::Create(args) = parsed(line).unwrap().command else {
                panic!("{line}")
            };
            let expires = Some("2026-06-01T12:00:00Z".parse().unwrap());
            show(&args, &cluster, "abcdef.0123456789abcdef", "abcdef", expires)
        };
        let command = "bosun agent --server https://192.0.2.7:6443 --token abcdef.0123456789abcdef";
        assert_eq!(shown("create --print-join-command"), format!("{command}\n"));
        let text = shown("create");
        assert_eq!(text.lines().next(), Some("abcdef.0123456789abcdef"));
        assert!(text.contains(command) && text.contains("2026-06-01 12:00:00"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&shown("create -o json")).unwrap();
        assert_eq!(json["command"], command);
        assert_eq!(json["expires"], "2026-06-01T12:00:00Z");
    }

    #[test]
    fn a_wrong_argument_is_refused_with_a_right_one() {
        for (line, words) in [
            ("delete ABCDEF", "six lower case letters"),
            ("delete", "<ID>"),
            ("create --ttl soon", "30s, 5m or 1h"),
            ("create --usages flying", "signing"),
            ("create --print-join-command -o json", "cannot be used with"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        assert!(matches!(
            parsed("delete abcdef.0123456789abcdef").unwrap().command,
            TokenCommand::Delete { ids } if ids == ["abcdef"]
        ));
    }
}
