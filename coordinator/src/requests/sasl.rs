//! SASL's DIGEST-MD5 (RFC 2831), the server's side, as ZooKeeper has it: the realm is
//! `zk-sasl-md5`, and who authenticates is who he acts as.
//!
//! An unknown user is refused as a wrong password is, and after as much work.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fmt::Write as _;

use md5::{Digest, Md5};

/// The realm that users are known in, which ZooKeeper's clients also take for the server's name.
const REALM: &str = "zk-sasl-md5";

/// What is served.
const SERVICE: &str = "zookeeper";

/// The longest token that is looked at, in bytes.
const TOKEN_SIZE_MAX: usize = 4096;

/// Who may authenticate by SASL, and who must.
#[derive(Clone, Default)]
pub struct SaslOptions {
    /// The users and their passwords.
    pub users: BTreeMap<String, String>,
    /// Whether a client of ZooKeeper's protocol gets nothing before it has authenticated so.
    pub is_required: bool,
    /// The user who may do everything.
    pub super_user: Option<String>,
}

impl fmt::Debug for SaslOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslOptions")
            .field("users", &self.users.keys())
            .field("is_required", &self.is_required)
            .field("super_user", &self.super_user)
            .finish()
    }
}

/// A conversation about who someone is.
#[derive(Debug)]
pub struct Exchange {
    nonce: String,
    realm: &'static str,
    service: &'static str,
}

/// Someone has proved who he is.
#[derive(Debug, PartialEq, Eq)]
pub struct Proved {
    /// Who.
    pub user: String,
    /// What the client is sent, so that he knows that the server knows the password as well.
    pub token: Vec<u8>,
}

/// A token is not right; the user may be unknown, or the password wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(&'static str);

impl Exchange {
    /// Begins one. The nonce must be random.
    pub fn new(nonce: String) -> Self {
        Self { nonce, realm: REALM, service: SERVICE }
    }

    /// The first token, which goes to the client.
    pub fn challenge(&self) -> Vec<u8> {
        format!(
            "realm=\"{}\",nonce=\"{}\",qop=\"auth\",charset=utf-8,algorithm=md5-sess",
            self.realm, self.nonce
        )
        .into_bytes()
    }

    /// Checks the client's answer to the challenge.
    pub fn verify(
        &self,
        token: &[u8],
        users: &BTreeMap<String, String>,
    ) -> Result<Proved, Refused> {
        let fields = fields(token)?;
        let field = |name: &str| fields.get(name).map(String::as_str);
        let required = |name, fault| field(name).ok_or(Refused(fault));
        let user = required("username", "no user name")?;
        let cnonce = required("cnonce", "no nonce of the client's")?;
        let uri = required("digest-uri", "no URI")?;
        let response = required("response", "no response")?;
        if field("nonce") != Some(&self.nonce) {
            return Err(Refused("the nonce is another"));
        }
        if field("nc") != Some("00000001") {
            return Err(Refused("the count is not that of a first use"));
        }
        if field("realm").unwrap_or_default() != self.realm {
            return Err(Refused("the realm is another"));
        }
        if !matches!(field("qop"), None | Some("auth")) {
            return Err(Refused("no such protection is offered"));
        }
        if !matches!(field("charset"), None | Some("utf-8")) {
            return Err(Refused("the character set is not UTF-8"));
        }
        if uri.split('/').next() != Some(self.service) {
            return Err(Refused("the URI is another service's"));
        }
        // Nobody acts for others.
        let authzid = field("authzid");
        if authzid.is_some_and(|acting| !acting.is_empty() && acting != user) {
            return Err(Refused("nobody acts for others"));
        }
        let password = users.get(user);
        let proof = Proof { exchange: self, cnonce, uri, authzid };
        let secret = proof.secret(user, password.map_or("", String::as_str));
        let is_right = is_equal(proof.digest(&secret, "AUTHENTICATE").as_bytes(), response);
        if !is_right || password.is_none() {
            return Err(Refused("the user or the password is wrong"));
        }
        let token = format!("rspauth={}", proof.digest(&secret, "")).into_bytes();
        Ok(Proved { user: user.to_owned(), token })
    }
}

/// What both sides put into their digests.
struct Proof<'a> {
    exchange: &'a Exchange,
    cnonce: &'a str,
    uri: &'a str,
    authzid: Option<&'a str>,
}

impl Proof<'_> {
    /// `HEX(H(A1))` of the RFC.
    fn secret(&self, user: &str, password: &str) -> String {
        let realm = self.exchange.realm;
        let key = Md5::digest(latin1(&[user, ":", realm, ":", password].concat()));
        let mut hash = Md5::new();
        hash.update(key);
        hash.update([":", &self.exchange.nonce, ":", self.cnonce].concat());
        if let Some(authzid) = self.authzid {
            hash.update([":", authzid].concat());
        }
        hex(&hash.finalize())
    }

    /// The response of the RFC; `AUTHENTICATE` for the client's, nothing for the server's.
    fn digest(&self, secret: &str, method: &str) -> String {
        let a2 = hex(&Md5::digest([method, ":", self.uri].concat()));
        let nonce = self.exchange.nonce.as_str();
        let parts = [secret, ":", nonce, ":00000001:", self.cnonce, ":auth:", &a2];
        hex(&Md5::digest(parts.concat()))
    }
}

/// The RFC's bytes of a text: in ISO 8859-1 if that has all its characters, else in UTF-8.
fn latin1(text: &str) -> Vec<u8> {
    let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<_>>>();
    bytes.unwrap_or_else(|| text.as_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Takes as long whatever part of it is right.
fn is_equal(expected: &[u8], actual: &str) -> bool {
    let actual = actual.as_bytes();
    if expected.len() != actual.len() {
        return false;
    }
    let pairs = expected.iter().zip(actual);
    pairs.fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b))) == 0
}

/// The fields of a token: `name=value` or `name="value"`, with commas between. Each at most once.
fn fields(token: &[u8]) -> Result<HashMap<String, String>, Refused> {
    const MALFORMED: Refused = Refused("the token is malformed");
    let text = std::str::from_utf8(token).map_err(|_| MALFORMED)?;
    if text.len() > TOKEN_SIZE_MAX {
        return Err(Refused("the token is too long"));
    }
    let mut fields = HashMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=').ok_or(MALFORMED)?;
        let (value, left) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted).ok_or(MALFORMED)?,
            None => {
                let end = value.find(',').unwrap_or(value.len());
                let (value, left) = value.split_at(end);
                (value.trim().to_owned(), left)
            }
        };
        if fields.insert(name.trim().to_ascii_lowercase(), value).is_some() {
            return Err(MALFORMED);
        }
        let left = left.trim_start();
        rest = match left.strip_prefix(',') {
            Some(left) => left.trim_start(),
            None if left.is_empty() => "",
            None => return Err(MALFORMED),
        };
    }
    Ok(fields)
}

/// The text up to a closing quote, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(user, password)| ((*user).to_owned(), (*password).to_owned())).collect()
    }

    /// The example of RFC 2831, section 4.
    const TOKEN: &str = "charset=utf-8,username=\"chris\",realm=\"elwood.innosoft.com\",\
        nonce=\"OA6MG9tEQGm2hh\",nc=00000001,cnonce=\"OA6MHXh6VqTrRk\",\
        digest-uri=\"imap/elwood.innosoft.com\",\
        response=d388dad90d4bbd760a152321f2143af7,qop=auth";

    fn exchange() -> Exchange {
        let nonce = "OA6MG9tEQGm2hh".to_owned();
        Exchange { nonce, realm: "elwood.innosoft.com", service: "imap" }
    }

    #[test]
    fn the_example_of_the_rfc_is_proved() {
        let proved = exchange().verify(TOKEN.as_bytes(), &users(&[("chris", "secret")])).unwrap();
        assert_eq!(proved.user, "chris");
        assert_eq!(proved.token, b"rspauth=ea40f60335c427b5527b84dbabcdfffd");
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_are_told_alike() {
        let wrong = exchange().verify(TOKEN.as_bytes(), &users(&[("chris", "Secret")]));
        let unknown = exchange().verify(TOKEN.as_bytes(), &users(&[("eve", "secret")]));
        let nobody = exchange().verify(TOKEN.as_bytes(), &users(&[]));
        assert!(wrong.is_err());
        assert_eq!(wrong, unknown);
        assert_eq!(wrong, nobody);
    }

    /// Somebody whose password is empty is no way in for those who are not known.
    #[test]
    fn an_unknown_user_with_an_empty_password_is_refused() {
        let proof = Proof {
            exchange: &exchange(),
            cnonce: "OA6MHXh6VqTrRk",
            uri: "imap/elwood.innosoft.com",
            authzid: None,
        };
        let response = proof.digest(&proof.secret("chris", ""), "AUTHENTICATE");
        let token = TOKEN.replace("d388dad90d4bbd760a152321f2143af7", &response);
        assert!(exchange().verify(token.as_bytes(), &users(&[])).is_err());
        assert!(exchange().verify(token.as_bytes(), &users(&[("chris", "")])).is_ok());
    }

    #[test]
    fn every_field_counts() {
        let users = users(&[("chris", "secret")]);
        for (from, to) in [
            ("nonce=\"OA6MG9", "nonce=\"OA6MG8"),
            ("cnonce=\"OA6MHX", "cnonce=\"OA6MHY"),
            ("nc=00000001", "nc=00000002"),
            ("nc=00000001,", ""),
            ("realm=\"elwood", "realm=\"Elwood"),
            ("digest-uri=\"imap", "digest-uri=\"smtp"),
            ("qop=auth", "qop=auth-int"),
            ("charset=utf-8", "charset=latin1"),
            ("charset=utf-8", "authzid=\"admin\""),
            ("charset=utf-8", "nc=00000001"),
            ("response=d388", "response=d389"),
            ("response=d388dad90d4bbd760a152321f2143af7", "response=d388"),
            ("qop=auth", "qop=\"auth"),
            ("qop=auth", "qop"),
        ] {
            let token = TOKEN.replacen(from, to, 1);
            assert_ne!(token, TOKEN);
            assert!(exchange().verify(token.as_bytes(), &users).is_err(), "{to}");
        }
        assert!(exchange().verify(b"", &users).is_err());
        assert!(exchange().verify(&[0xff; 5000], &users).is_err());
    }
}
