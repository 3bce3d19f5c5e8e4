//! The part of a JAAS file that ZooKeeper's server reads: the users of its `Server` section.
//!
//! ```text
//! Server {
//!     org.apache.zookeeper.server.auth.DigestLoginModule required
//!     user_alice="her password";
//! };
//! ```

use std::collections::BTreeMap;

use ottla_common::config::Secret;

/// The users of the section `Server` and their passwords. None if the file has no such section.
/// An error says what is wrong, without a password.
pub fn server_users(text: &str) -> Result<Option<BTreeMap<String, Secret>>, String> {
    let mut tokens = tokens(text)?.into_iter();
    while let Some(name) = tokens.next() {
        if tokens.next().as_deref() != Some("{") {
            return Err(format!("expected {{ behind the section {name:?}"));
        }
        let section: Vec<String> = tokens.by_ref().take_while(|token| token != "}").collect();
        // A semicolon behind the section.
        let rest = tokens.as_slice();
        if rest.first().is_some_and(|token| token == ";") {
            tokens.next();
        }
        if name == "Server" {
            return users(&section).map(Some);
        }
    }
    Ok(None)
}

fn users(section: &[String]) -> Result<BTreeMap<String, Secret>, String> {
    let module = section.first().ok_or("the section Server names no login module")?;
    if !module.ends_with("DigestLoginModule") {
        return Err(format!("the login module {module} is not offered, only DigestLoginModule"));
    }
    let mut users = BTreeMap::new();
    for triple in section.windows(3) {
        if let [name, equals, password] = triple
            && equals == "="
            && let Some(user) = name.strip_prefix("user_")
        {
            users.insert(user.to_owned(), Secret::new(password.clone()));
        }
    }
    Ok(users)
}

/// Words, quoted texts and the signs `{ } ; =`.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '{' | '}' | ';' | '=' => tokens.push(c.to_string()),
            '#' => while chars.next().is_some_and(|c| c != '\n') {},
            '/' if chars.peek() == Some(&'/') => while chars.next().is_some_and(|c| c != '\n') {},
            '/' if chars.peek() == Some(&'*') => {
                let mut last = ' ';
                for c in chars.by_ref() {
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            '"' => {
                let mut quoted = String::new();
                loop {
                    match chars.next().ok_or("a quoted text has no end")? {
                        '"' => break,
                        '\\' => quoted.extend(chars.next()),
                        c => quoted.push(c),
                    }
                }
                tokens.push(quoted);
            }
            c => {
                let mut word = c.to_string();
                let ends = |c: &char| c.is_whitespace() || "{};=\"".contains(*c);
                while let Some(c) = chars.next_if(|c| !ends(c)) {
                    word.push(c);
                }
                tokens.push(word);
            }
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_of_the_section_server_are_read() {
        let text = "// comment\nClient { a.B required x=\"y\"; };\nServer {\n \
            org.apache.zookeeper.server.auth.DigestLoginModule required\n \
            user_super=\"super_secret\" # more\n user_bob=\"a \\\"b\\\" ;{}\";\n};";
        let users = server_users(text).unwrap().unwrap();
        let users: Vec<_> = users.iter().map(|(name, pw)| (name.as_str(), pw.expose())).collect();
        assert_eq!(users, [("bob", "a \"b\" ;{}"), ("super", "super_secret")]);
        assert!(server_users("").unwrap().is_none());
        assert!(server_users("Client { a.B required; };").unwrap().is_none());
    }

    #[test]
    fn what_is_not_offered_or_broken_is_told() {
        let kerberos = "Server { com.sun.security.auth.module.Krb5LoginModule required; };";
        assert!(server_users(kerberos).unwrap_err().contains("Krb5LoginModule"));
        assert!(server_users("Server { a \"b").is_err());
        assert!(server_users("Server a").is_err());
    }
}
