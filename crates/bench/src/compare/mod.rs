//! `compare`: the same scenarios against RabbitMQ and Warren, alternately, side by side.
//!
//! Both run on this machine with their defaults. Whatever disturbs the machine disturbs both, and
//! what counts are ratios, medians and processor time.

mod scenarios;
mod table;
mod trial;

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::args::CompareArgs;
use crate::brokers::{Broker, Cluster, Directory, find_rabbitmq};
use crate::output;

use scenarios::{Nodes, SCENARIOS, Scenario};
use table::Comparison;

/// Runs the scenarios and prints the comparison.
pub(crate) fn main(args: &CompareArgs) -> anyhow::Result<()> {
    let chosen = choose(&args.scenarios)?;
    let brokers = brokers(args)?;
    let directory = Directory::new(args.data_dir.as_deref())?;
    let mut comparison = Comparison::new(&chosen, args.scale);
    for nodes in [Nodes::One, Nodes::Three, Nodes::Own] {
        let group: Vec<_> = chosen
            .iter()
            .copied()
            .filter(|one| one.nodes == nodes)
            .collect();
        if !group.is_empty() {
            run_group(args, &brokers, &group, directory.path(), &mut comparison)?;
        }
    }
    output::live_end();
    if args.json {
        output::json(&comparison)?
    } else {
        comparison.print()
    }
    Ok(())
}

/// Runs scenarios that share clusters.
fn run_group(
    args: &CompareArgs,
    brokers: &[Broker],
    group: &[&'static Scenario],
    directory: &Path,
    comparison: &mut Comparison,
) -> anyhow::Result<()> {
    let mut clusters = Vec::new();
    for broker in brokers {
        let home = directory.join(format!("{}-{}", broker.name(), group_name(group)));
        let mut cluster = Cluster::new(broker.clone(), group_size(group), &home)?;
        if group.iter().any(|scenario| scenario.nodes != Nodes::Own) {
            show(&format!(
                "starting {} ({} nodes)",
                broker.name(),
                cluster.len()
            ));
            cluster
                .start()
                .with_context(|| format!("starting {}", broker.name()))?;
        }
        clusters.push(cluster);
    }
    for round in 0..args.rounds {
        for scenario in group {
            // Who begins changes, so that neither always runs on a disk the other has just left.
            let mut turns: Vec<_> = clusters.iter_mut().collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for cluster in turns {
                let name = cluster.broker().name();
                show(&format!(
                    "{} {name} round {} of {}",
                    scenario.id,
                    round + 1,
                    args.rounds
                ));
                match trial::run(scenario, cluster, args) {
                    Ok(figures) => comparison.enter(scenario, name, figures),
                    Err(error) => comparison.failed(scenario, name, &format!("{error:#}")),
                }
            }
        }
    }
    for mut cluster in clusters {
        cluster.stop();
    }
    Ok(())
}

fn group_size(group: &[&Scenario]) -> usize {
    if group.iter().any(|scenario| scenario.nodes == Nodes::Three) {
        3
    } else {
        1
    }
}

fn group_name(group: &[&Scenario]) -> &'static str {
    match group.first().map(|scenario| scenario.nodes) {
        Some(Nodes::Three) => "three",
        Some(Nodes::Own) => "own",
        _ => "one",
    }
}

fn show(text: &str) {
    if output::is_watched() {
        output::live(text)
    } else {
        output::error(text)
    }
}

fn choose(ids: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    for id in ids {
        if !SCENARIOS
            .iter()
            .any(|scenario| scenario.id.eq_ignore_ascii_case(id))
        {
            let known: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.id).collect();
            bail!(
                "there is no scenario '{id}'; there are {}",
                known.join(", ")
            );
        }
    }
    let wanted = |scenario: &&Scenario| {
        ids.is_empty() || ids.iter().any(|id| scenario.id.eq_ignore_ascii_case(id))
    };
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

fn brokers(args: &CompareArgs) -> anyhow::Result<Vec<Broker>> {
    let mut brokers = Vec::new();
    if !args.no_rabbitmq {
        brokers.push(Broker::RabbitMq(find_rabbitmq(args.rabbitmq.as_deref())?));
    }
    if let Some(program) = &args.warren {
        brokers.push(Broker::warren(program)?);
    }
    Ok(brokers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_letter() {
        let ids = |ids: &[&str]| {
            let ids: Vec<_> = ids.iter().map(|&id| id.to_owned()).collect();
            choose(&ids).map(|chosen| chosen.iter().map(|one| one.id).collect::<String>())
        };
        assert_eq!(ids(&[]).unwrap(), "ABCDEFGHIJKLMNOO64PQR");
        assert_eq!(ids(&["d", "A"]).unwrap(), "AD");
        assert!(ids(&["Z"]).is_err());
    }
}
