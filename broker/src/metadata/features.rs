//! The features of the cluster (KIP-584): which levels this software knows, and which are in force.
//!
//! | feature | levels | what it means here |
//! |---|---|---|
//! | `eligible.leader.replicas.version` | 1 | eligible replicas are elected (KIP-966), always |
//! | `group.version` | 0, 1 | 1: groups of the consumer protocol are served (KIP-848) |
//!
//! `transaction.version` comes with transactions; `metadata.version` and `kraft.version` are of a
//! metadata log that there is none of here.

use std::collections::BTreeMap;

/// The consumer protocol of groups.
pub const GROUP_VERSION: &str = "group.version";

/// A feature that this software knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The lowest and the highest level.
    pub levels: (i16, i16),
    /// The level of a cluster that nobody has set another for.
    pub default: i16,
}

/// All of them, by name.
pub const FEATURES: [Feature; 2] = [
    Feature { name: "eligible.leader.replicas.version", levels: (1, 1), default: 1 },
    Feature { name: GROUP_VERSION, levels: (0, 1), default: 1 },
];

/// The levels in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinalizedLevels {
    /// Those that were set; the others have their defaults.
    pub set: BTreeMap<String, i16>,
    /// Grows with each change; 0 if there was none.
    pub epoch: i64,
}

impl FinalizedLevels {
    /// The level of a feature; 0 if it is off or not known.
    pub fn level(&self, name: &str) -> i16 {
        let known = FEATURES.iter().find(|feature| feature.name == name);
        known.map_or(0, |known| self.set.get(name).copied().unwrap_or(known.default))
    }

    /// The features that are on, with their levels.
    pub fn finalized(&self) -> impl Iterator<Item = (&'static str, i16)> {
        let levels = FEATURES.iter().map(|feature| (feature.name, self.level(feature.name)));
        levels.filter(|(_, level)| *level > 0)
    }
}

/// How a level is to be changed (the numbers of Kafka's protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeType {
    /// Only upwards.
    Upgrade = 1,
    /// Downwards, if nothing is lost.
    SafeDowngrade = 2,
    /// Downwards, whatever is lost.
    UnsafeDowngrade = 3,
}

impl UpgradeType {
    /// The one of a number.
    pub fn from_code(code: i8) -> Option<Self> {
        [Self::Upgrade, Self::SafeDowngrade, Self::UnsafeDowngrade]
            .into_iter()
            .find(|kind| *kind as i8 == code)
    }
}

/// A level that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature.
    pub name: String,
    /// Its level from now on.
    pub level: i16,
    /// How; `None` if it is a way that nobody knows.
    pub upgrade_type: Option<UpgradeType>,
}

/// Whether an update may be made, and if not why not, in Kafka's words. `controller` is who says
/// so.
pub fn check_update(
    levels: &FinalizedLevels,
    update: &FeatureUpdate,
    controller: i32,
) -> Result<(), String> {
    let refused = |why: String| {
        let FeatureUpdate { name, level, .. } = update;
        Err(format!("Invalid update version {level} for feature {name}. {why}"))
    };
    let Some(upgrade_type) = update.upgrade_type else {
        return refused("The controller does not support the given upgrade type.".to_owned());
    };
    if update.level < 0 {
        return refused("A feature version cannot be less than 0.".to_owned());
    }
    let Some(known) = FEATURES.iter().find(|feature| feature.name == update.name) else {
        return refused(format!("Local controller {controller} does not support this feature."));
    };
    let (lowest, highest) = known.levels;
    if !(lowest..=highest).contains(&update.level) {
        return refused(format!(
            "Local controller {controller} only supports versions {lowest}-{highest}"
        ));
    }
    let current = levels.level(&update.name);
    if update.level < current && upgrade_type == UpgradeType::Upgrade {
        return refused(
            "Can't downgrade the version of this feature without setting the upgrade type to \
             either safe or unsafe downgrade."
                .to_owned(),
        );
    }
    if update.level > current && upgrade_type != UpgradeType::Upgrade {
        return refused("Can't downgrade to a newer version.".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, level: i16, kind: i8) -> Result<(), String> {
        let upgrade_type = UpgradeType::from_code(kind);
        let update = FeatureUpdate { name: name.to_owned(), level, upgrade_type };
        check_update(&FinalizedLevels::default(), &update, 7)
    }

    #[test]
    fn a_level_goes_down_only_if_that_is_meant() {
        assert_eq!(check(GROUP_VERSION, 1, 1), Ok(()));
        assert!(check(GROUP_VERSION, 0, 1).unwrap_err().contains("Can't downgrade the version"));
        assert_eq!(check(GROUP_VERSION, 0, 2), Ok(()));
        assert_eq!(check(GROUP_VERSION, 0, 3), Ok(()));
        assert!(check(GROUP_VERSION, 0, 9).unwrap_err().ends_with("the given upgrade type."));
        assert!(check(GROUP_VERSION, -1, 1).unwrap_err().contains("less than 0"));
        let off = FinalizedLevels { set: BTreeMap::from([(GROUP_VERSION.into(), 0)]), epoch: 5 };
        let up = |kind| FeatureUpdate {
            name: GROUP_VERSION.to_owned(),
            level: 1,
            upgrade_type: UpgradeType::from_code(kind),
        };
        assert_eq!(check_update(&off, &up(1), 7), Ok(()));
        assert!(check_update(&off, &up(2), 7).unwrap_err().contains("to a newer version"));
        assert_eq!(off.finalized().collect::<Vec<_>>(), [("eligible.leader.replicas.version", 1)]);
    }

    #[test]
    fn what_is_not_known_cannot_be_set() {
        let unknown = check("transaction.version", 1, 1).unwrap_err();
        assert_eq!(
            unknown,
            "Invalid update version 1 for feature transaction.version. Local controller 7 does \
             not support this feature."
        );
        let high = check(GROUP_VERSION, 2, 1).unwrap_err();
        assert!(high.ends_with("Local controller 7 only supports versions 0-1"), "{high}");
    }
}
