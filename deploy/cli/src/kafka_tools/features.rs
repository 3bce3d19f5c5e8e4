//! `kafka-features`: the features of a cluster and their levels.

use std::collections::BTreeMap;
use std::fmt::Display;

use clap::{Args, Parser, Subcommand};
use ottla_common::kafka::cluster::Cluster;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_common::kafka::messages::update_features::UpdateFeaturesRequest;
use ottla_common::kafka::messages::update_features::request::FeatureUpdateKey;

use super::{CommonArguments, Shown};
use crate::output::{Output, misuse};

/// The upgrade types of Kafka's protocol.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// This tool manages feature flags in Kafka.
#[derive(Debug, Parser)]
#[command(name = "kafka-features", version)]
pub struct Features {
    #[command(flatten)]
    common: CommonArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Describes the current active feature flags.
    Describe,
    /// Upgrade one or more feature flags.
    Upgrade(Change),
    /// Downgrade one or more feature flags.
    Downgrade(Change),
    /// Disable one or more feature flags. This is the same as downgrading the version to zero.
    Disable(Change),
}

#[derive(Args, Debug)]
struct Change {
    /// The feature to change: feature=level, or its name alone to disable it.
    #[arg(long)]
    feature: Vec<String>,
    /// Do it even if it may irreversibly destroy metadata.
    #[arg(long = "unsafe")]
    is_unsafe: bool,
    /// Validate the change, but do not perform it.
    #[arg(long)]
    dry_run: bool,
}

impl Change {
    fn downgrade_type(&self) -> i8 {
        if self.is_unsafe { UNSAFE_DOWNGRADE } else { SAFE_DOWNGRADE }
    }

    fn levels(&self, is_disabled: bool) -> anyhow::Result<BTreeMap<String, i16>> {
        let mut levels = BTreeMap::new();
        for text in &self.feature {
            let (name, level) = match is_disabled {
                true => (text.trim(), 0),
                false => parse(text)?,
            };
            if levels.insert(name.to_owned(), level).is_some() {
                return Err(misuse(format!("Feature {name} was specified more than once.")));
            }
        }
        Ok(levels)
    }
}

fn parse(text: &str) -> anyhow::Result<(&str, i16)> {
    let cannot = format!("Can't parse feature=level string {text}: ");
    let Some((name, level)) = text.split_once('=') else {
        return Err(misuse(format!("{cannot}equals sign not found.")));
    };
    let level = level.trim();
    match level.parse() {
        Ok(level) => Ok((name.trim(), level)),
        Err(_) => Err(misuse(format!("{cannot}unable to parse {level} as a short."))),
    }
}

fn print(line: impl Display) -> anyhow::Result<()> {
    Output { json: false }.line(line)
}

/// Runs the tool.
pub async fn run(arguments: &Features) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Describe => describe(&arguments.common.cluster().await?).await,
        Command::Upgrade(change) => {
            let levels = change.levels(false)?;
            update(arguments, change, ("upgrade", UPGRADE), levels).await
        }
        Command::Downgrade(change) => {
            let levels = change.levels(false)?;
            update(arguments, change, ("downgrade", change.downgrade_type()), levels).await
        }
        Command::Disable(change) => {
            let levels = change.levels(true)?;
            update(arguments, change, ("disable", change.downgrade_type()), levels).await
        }
    }
}

async fn describe(cluster: &Cluster) -> anyhow::Result<()> {
    let request = ApiVersionsRequest {
        client_software_name: "ottla".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
        ..ApiVersionsRequest::default()
    };
    let told: ApiVersionsResponse = cluster.send_to_any(&request).await?;
    let epoch = match told.finalized_features_epoch {
        ..0 => "-".to_owned(),
        epoch => epoch.to_string(),
    };
    let mut supported = told.supported_features;
    supported.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    for feature in supported {
        let finalized = told.finalized_features.iter().find(|known| known.name == feature.name);
        print(format_args!(
            "Feature: {}\tSupportedMinVersion: {}\tSupportedMaxVersion: {}\t\
             FinalizedVersionLevel: {}\tEpoch: {epoch}",
            feature.name.as_str(),
            feature.min_version,
            feature.max_version,
            finalized.map_or(0, |finalized| finalized.max_version_level)
        ))?;
    }
    Ok(())
}

async fn update(
    arguments: &Features,
    change: &Change,
    (operation, upgrade_type): (&str, i8),
    levels: BTreeMap<String, i16>,
) -> anyhow::Result<()> {
    if levels.is_empty() {
        return Err(misuse(format!("You must specify at least one feature to {operation}")));
    }
    let updates = levels.iter().map(|(name, level)| FeatureUpdateKey {
        feature: name.as_str().into(),
        max_version_level: *level,
        upgrade_type,
        ..FeatureUpdateKey::default()
    });
    let request = UpdateFeaturesRequest {
        feature_updates: updates.collect(),
        validate_only: change.dry_run,
        ..UpdateFeaturesRequest::default()
    };
    let response = arguments.common.cluster().await?.send_to_any(&request).await?;
    let code = ErrorCode::from_code(response.error_code);
    for (name, level) in &levels {
        let is_disabled = operation == "disable";
        if code == ErrorCode::None {
            let verb = if change.dry_run { "can be" } else { "was" };
            let what = match is_disabled {
                true => "disabled.".to_owned(),
                false => format!("{operation}d to {level}."),
            };
            print(format_args!("{name} {verb} {what}"))?;
        } else {
            let helper = if change.dry_run { "Can not" } else { "Could not" };
            let what = match is_disabled {
                true => format!("disable {name}"),
                false => format!("{operation} {name} to {level}"),
            };
            let why = response.error_message.as_ref().map_or("", |text| text.as_str());
            print(format_args!("{helper} {what}. {why}"))?;
        }
    }
    if code != ErrorCode::None {
        eprintln!("{0} out of {0} operation(s) failed.", levels.len());
        return Err(Shown.into());
    }
    Ok(())
}
