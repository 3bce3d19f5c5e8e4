//! What every command is given: where the cluster is, and how to print.

use clap::Args;
use ottla_common::kafka::admin::Admin;
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::cluster::{Cluster, ClusterOptions};

use crate::output::Output;

/// Flags that every command takes.
#[derive(Args, Debug)]
pub struct GlobalArguments {
    /// Brokers to begin with: HOST:PORT,HOST:PORT…
    #[arg(
        short,
        long,
        global = true,
        value_name = "ADDRESSES",
        default_value = "127.0.0.1:9092",
        env = "OTTLA_BOOTSTRAP_SERVER"
    )]
    bootstrap_server: String,
    /// Members of the coordinator: HOST:PORT,HOST:PORT…
    #[arg(
        short,
        long,
        global = true,
        value_name = "ADDRESSES",
        default_value = "127.0.0.1:2181",
        env = "OTTLA_COORDINATORS"
    )]
    coordinators: String,
    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    json: bool,
}

/// What every command is given.
#[derive(Debug)]
pub struct Context {
    /// Brokers to begin with.
    pub bootstrap_servers: Vec<String>,
    /// Members of the coordinator.
    pub coordinators: Vec<String>,
    /// How to print.
    pub output: Output,
}

impl Context {
    /// What the flags say.
    pub fn new(arguments: &GlobalArguments) -> Self {
        Self {
            bootstrap_servers: addresses(&arguments.bootstrap_server, 9092),
            coordinators: addresses(&arguments.coordinators, 2181),
            output: Output { json: arguments.json },
        }
    }

    /// The brokers' cluster.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn cluster(&self) -> anyhow::Result<Cluster> {
        cluster(&self.bootstrap_servers, false).await
    }

    /// An administrator of the brokers' cluster.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn admin(&self) -> anyhow::Result<Admin> {
        Ok(Admin::new(self.cluster().await?))
    }

    /// The brokers' cluster, for who sends: asking for a topic may make it, if the brokers do that.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn cluster_that_creates(&self) -> anyhow::Result<Cluster> {
        cluster(&self.bootstrap_servers, true).await
    }
}

/// The cluster that these brokers belong to. `creates`: asking for a topic may make it.
///
/// # Errors
/// If none of them answers.
pub async fn cluster(bootstrap_servers: &[String], creates: bool) -> anyhow::Result<Cluster> {
    let mut options =
        ClusterOptions { allow_auto_topic_creation: creates, ..ClusterOptions::default() };
    options.client.client_id = "ottla-cli".to_owned();
    let connected = Cluster::connect(bootstrap_servers, options).await;
    connected.map_err(|error| match error {
        ClientError::NoBootstrapServer { .. } => anyhow::anyhow!(
            "{error}; is it running? --bootstrap-server names others, `ottla dev` starts one"
        ),
        error => error.into(),
    })
}

/// The addresses in a list, each with the usual port if it has none.
pub fn addresses(list: &str, port: u16) -> Vec<String> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let has_port = part
                .rsplit_once(':')
                .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && !host.ends_with(':'));
            if has_port { part.to_owned() } else { format!("{part}:{port}") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_usual_port() {
        let got = addresses("one, two:1,[::1],[::1]:2,", 9092);
        assert_eq!(got, ["one:9092", "two:1", "[::1]:9092", "[::1]:2"]);
    }
}
