//! Policies of delayed retry.

use super::policies::*;
use super::*;

/// What says nothing of it is empty, or 0.
fn delayed_retry(kind: &str, min: i64, max: i64) -> PolicySpec {
    let kind = (!kind.is_empty()).then(|| ("delayed-retry-type", text(kind)));
    let numbers = [("delayed-retry-min", min), ("delayed-retry-max", max)].into_iter();
    let numbers = numbers.filter(|(_, number)| *number > 0);
    let numbers = numbers.map(|(key, number)| (key, int(number)));
    let definition: Vec<_> = kind.into_iter().chain(numbers).collect();
    policy("p", ".*", 0, &definition)
}

#[test]
fn delayed_retry_of_arguments_and_policies() {
    for (argument, user, by_operator, expected) in [
        (("", 0, 0), None, None, None),
        (("all", 0, 0), None, None, None),
        (("all", 7, 0), None, None, Some((RetryKind::All, 7, 7))),
        (("all", 7, 9), None, None, Some((RetryKind::All, 7, 9))),
        (("some", 7, 9), None, None, None),
        (
            ("all", 7, 9),
            Some(("returned", 5, 20)),
            None,
            Some((RetryKind::Returned, 5, 9)),
        ),
        (("all", 7, 9), Some(("disabled", 0, 0)), None, None),
        (
            ("", 0, 0),
            Some(("all", 5, 20)),
            Some(("failed", 8, 12)),
            Some((RetryKind::Failed, 8, 12)),
        ),
        (
            ("", 0, 0),
            Some(("all", 5, 0)),
            Some(("", 0, 12)),
            Some((RetryKind::All, 5, 12)),
        ),
    ] {
        let mut driver = Driver::new();
        let arguments = table(&[
            ("x-queue-type", FieldValue::text("quorum")),
            ("x-delayed-retry-type", FieldValue::text(argument.0)),
            ("x-delayed-retry-min", FieldValue::I64(argument.1)),
            ("x-delayed-retry-max", FieldValue::I64(argument.2)),
        ]);
        let arguments = if argument.0.is_empty() {
            table(&[])
        } else {
            arguments
        };
        driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
            arguments,
            ..queue("q")
        }));
        if let Some((kind, min, max)) = user {
            let spec = delayed_retry(kind, min, max);
            driver.ok(CatalogCommand::PutPolicy(spec));
        }
        if let Some((kind, min, max)) = by_operator {
            let spec = operator(delayed_retry(kind, min, max));
            driver.ok(CatalogCommand::PutPolicy(spec));
        }
        let record = driver.catalog.queue("/", "q").expect("declared");
        let expected = expected.map(|(kind, min_ms, max_ms)| DelayedRetry {
            kind,
            min_ms,
            max_ms,
        });
        let found = record.settings().delayed_retry;
        assert_eq!(found, expected, "{argument:?} {user:?} {by_operator:?}");
    }
}

#[test]
fn policies_of_delayed_retry_that_make_no_sense_are_refused() {
    let driver = Driver::new();
    for (definition, expected) in [
        (
            vec![("delayed-retry-type", text("all"))],
            "delayed-retry-min is required when delayed-retry-type is all",
        ),
        (
            vec![("delayed-retry-min", int(5)), ("delayed-retry-max", int(4))],
            "delayed-retry-max (4) must not be smaller than delayed-retry-min (5)",
        ),
        (
            vec![
                ("delayed-retry-type", text("some")),
                ("delayed-retry-min", int(5)),
            ],
            "delayed-retry-type",
        ),
        (vec![("delayed-retry-min", int(0))], "delayed-retry-min"),
        (vec![("delayed-retry-max", text("5"))], "delayed-retry-max"),
    ] {
        let spec = policy("p", ".*", 0, &definition);
        for spec in [spec.clone(), operator(spec)] {
            let refused = driver.catalog.check(&CatalogCommand::PutPolicy(spec));
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }
    let off = policy("p", ".*", 0, &[("delayed-retry-type", text("disabled"))]);
    assert_eq!(
        driver.catalog.check(&CatalogCommand::PutPolicy(off)),
        Ok(())
    );
}
