//! Users.

use super::arguments::{flag, text};
use super::columns::{Column, rows, same};
use super::command::{Answer, CTL, Call, Command, LOOK, command, line_of_input};
use super::format::Output;
use super::trouble::{DATA, OrMissing, SOFTWARE, Trouble, is_missing};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node::broker_model::catalog::{PasswordAlgorithm, PasswordHash};
use serde_json::{Map, Value, json};

pub(super) const COMMANDS: &[Command] = &[
    command(
        "list_users",
        LOOK,
        "[--no-table-headers]",
        (0, 0),
        |_| "Listing users ...".into(),
        list,
    ),
    command(
        "add_user",
        CTL,
        "<username> [<password>] [<password_hash> --pre-hashed-password]",
        (1, 2),
        |call| format!("Adding user \"{}\" ...", call.word(0)),
        add,
    )
    .with(&[flag("pre-hashed-password")]),
    command(
        "delete_user",
        CTL,
        "<username>",
        (1, 1),
        |call| format!("Deleting user \"{}\" ...", call.word(0)),
        delete,
    ),
    command(
        "change_password",
        CTL,
        "<username> [<password>]",
        (1, 2),
        |call| format!("Changing password for user \"{}\" ...", call.word(0)),
        change_password,
    ),
    command(
        "clear_password",
        CTL,
        "<username>",
        (1, 1),
        |call| format!("Clearing password for user \"{}\" ...", call.word(0)),
        clear_password,
    ),
    command(
        "authenticate_user",
        CTL,
        "<username> [<password>]",
        (1, 2),
        |call| format!("Authenticating user \"{}\" ...", call.word(0)),
        authenticate,
    ),
    command(
        "set_user_tags",
        CTL,
        "<username> <tag> [...]",
        (1, usize::MAX),
        |call| {
            let tags = call.words.get(1..).unwrap_or_default().join(", ");
            format!("Setting tags for user \"{}\" to [{tags}] ...", call.word(0))
        },
        set_tags,
    ),
    command(
        "hash_password",
        CTL,
        "<cleartext_password>",
        (0, 1),
        |_| "Will hash the password".into(),
        hash,
    )
    .with(&[text("hashing-algorithm")]),
];

const COLUMNS: &[Column] = &[("user", super::columns::From::At("name")), same("tags")];

fn list(call: &Call) -> Answer {
    Ok(Output::Rows(rows(COLUMNS, &call.rows(&["users"])?)))
}

/// The word at that place, else the first line of standard input.
fn password(call: &Call) -> Result<String, Trouble> {
    if let Some(given) = call.words.get(1) {
        return Ok(given.clone());
    }
    line_of_input("Password: ")?
        .ok_or_else(|| Trouble::error(DATA, "Password is not provided via argument or stdin"))
}

fn add(call: &Call) -> Answer {
    let user = call.word(0);
    if user.is_empty() {
        return Err(call.misused(DATA, "Bad argument: user cannot be an empty string"));
    }
    let secret = password(call)?;
    match call.get(&["users", user]) {
        Ok(_) => {
            let text = format!("User \"{user}\" already exists");
            return Err(Trouble::error(SOFTWARE, text));
        }
        Err(failure) if is_missing(&failure) => {}
        Err(failure) => return Err(failure.into()),
    }
    let body = if call.options.flag("pre-hashed-password") {
        with_hash(&secret).ok_or_else(|| {
            let text = "Bad argument: Could not Base64 decode provided password hash value";
            call.misused(DATA, text)
        })?
    } else {
        with_password(&secret, &json!([]))
    };
    call.put(&["users", user], &body)?;
    if call.is_quiet() {
        return Ok(Output::Silent);
    }
    let text = "Done. Don't forget to grant the user permissions to some virtual hosts! See 'rabbitmqctl help \
                set_permissions' to learn more.";
    let answer = json!({ "message": text, "node": call.node(), "status": "ok" });
    Ok(Output::Both(text.into(), answer))
}

/// A user with a password; an empty one lets nobody in, as with RabbitMQ.
fn with_password(password: &str, tags: &Value) -> Value {
    if password.is_empty() {
        json!({ "password_hash": "", "tags": tags })
    } else {
        json!({ "password": password, "tags": tags })
    }
}

/// A user whose password was hashed before, by this program or by RabbitMQ's.
fn with_hash(encoded: &str) -> Option<Value> {
    let hash = STANDARD.decode(encoded).ok()?;
    let algorithm = PasswordAlgorithm::of_hash(&hash).unwrap_or(PasswordAlgorithm::RabbitSha256);
    Some(json!({ "password_hash": encoded, "hashing_algorithm": algorithm.as_str(), "tags": [] }))
}

fn delete(call: &Call) -> Answer {
    let user = call.word(0);
    call.delete(&["users", user])
        .or_missing(|| Trouble::no_user(user))?;
    Ok(Output::Done)
}

fn change_password(call: &Call) -> Answer {
    let user = call.word(0);
    let secret = password(call)?;
    let known = call.need_user(user)?;
    let tags = known.get("tags").unwrap_or(&Value::Null);
    call.put(&["users", user], &with_password(&secret, tags))?;
    Ok(Output::Done)
}

fn clear_password(call: &Call) -> Answer {
    let user = call.word(0);
    let known = call.need_user(user)?;
    let body = json!({ "password_hash": "", "tags": known.get("tags") });
    call.put(&["users", user], &body)?;
    Ok(Output::Done)
}

fn authenticate(call: &Call) -> Answer {
    let user = call.word(0);
    let secret = password(call)?;
    let refused = || {
        let text = format!(
            "Error: failed to authenticate user \"{user}\"\nuser '{user}' - invalid credentials"
        );
        Trouble::error(DATA, text)
    };
    // Asking the node to let the user in would tell only about users with a tag, who may use the HTTP API.
    let known = call.get(&["users", user]).or_missing(refused)?;
    match stored(&known) {
        Some(stored) if node::auth::verify(&stored, secret.as_bytes()) => {
            Ok(Output::Text("Success".into()))
        }
        _ => Err(refused()),
    }
}

/// The password of a user as the HTTP API shows it; none where there is none.
fn stored(user: &Value) -> Option<PasswordHash> {
    let hash = STANDARD
        .decode(super::columns::text(user, "password_hash"))
        .ok()
        .filter(|hash| !hash.is_empty())?;
    let algorithm = PasswordAlgorithm::parse(super::columns::text(user, "hashing_algorithm"))?;
    Some(PasswordHash {
        algorithm,
        hash: hash.into(),
    })
}

fn set_tags(call: &Call) -> Answer {
    let user = call.word(0);
    let known = call.need_user(user)?;
    let tags = call.words.get(1..).unwrap_or_default();
    // The hash goes back as it came: without it the user would lose its password.
    let mut body = Map::from_iter([("tags".to_owned(), json!(tags))]);
    for key in ["password_hash", "hashing_algorithm"] {
        body.insert(key.to_owned(), known.get(key).cloned().unwrap_or_default());
    }
    call.put(&["users", user], &Value::Object(body))?;
    Ok(Output::Done)
}

fn hash(call: &Call) -> Answer {
    if call.options.text("hashing-algorithm").is_some() {
        return Err(Trouble::refused(
            "--hashing-algorithm: Warren makes hashes with Argon2id only",
        ));
    }
    let given = match call.words.first() {
        Some(given) => given.clone(),
        None => line_of_input("Password: ")?.unwrap_or_default(),
    };
    if given.is_empty() {
        return Err(call.misused(DATA, "Bad argument: password cannot be an empty string"));
    }
    let hashed = node::auth::hash_password(&given);
    Ok(Output::Text(STANDARD.encode(&hashed.hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_verified_here() {
        let shown = |hash: &PasswordHash| {
            json!({
                "password_hash": STANDARD.encode(&hash.hash),
                "hashing_algorithm": hash.algorithm.as_str(),
            })
        };
        let hash = node::auth::hash_password("secret");
        let read = stored(&shown(&hash)).unwrap();
        assert!(node::auth::verify(&read, b"secret") && !node::auth::verify(&read, b"other"));
        assert_eq!(stored(&shown(&PasswordHash::disabled())), None);
    }

    #[test]
    fn hashes_keep_their_kind() {
        let hash = node::auth::hash_password("secret");
        let argon = with_hash(&STANDARD.encode(&hash.hash)).unwrap();
        assert_eq!(
            argon["hashing_algorithm"],
            "warren_password_hashing_argon2id"
        );
        let sha = with_hash("AAAAAA==").unwrap();
        assert_eq!(sha["hashing_algorithm"], "rabbit_password_hashing_sha256");
        assert!(with_hash("not base64").is_none());
    }
}
