//! Broker configs of Kafka: who may connect, and how.

use super::Valid::*;
use super::config_keys;

config_keys! {
    /// Configs of security.
    pub const SECURITY: Kafka;

    String "authorizer.class.name" = "", Any, ReadOnly:
        "The authorizer that decides who may do what; empty means everyone may do all.";
    List "config.providers" = "", Any, ClusterWide:
        "Names of providers that fill in variables in config values.";
    Int "connection.failed.authentication.delay.ms" = "100", AtLeast(0), ReadOnly:
        "Wait before a connection is closed whose authentication failed, against guessing.";
    Long "connections.max.reauth.ms" = "0", Any, ReadOnly:
        "A SASL session must authenticate again within this time; 0 means never.";
    Long "delegation.token.expiry.check.interval.ms" = "3600000", AtLeast(1), ReadOnly:
        "Time between the searches for expired delegation tokens.";
    Long "delegation.token.expiry.time.ms" = "86400000", AtLeast(1), ReadOnly:
        "Time for which a delegation token is good until it is renewed.";
    Long "delegation.token.max.lifetime.ms" = "604800000", AtLeast(1), ReadOnly:
        "Time after which a delegation token can no longer be renewed.";
    Password "delegation.token.secret.key" = null, Any, ReadOnly:
        "Secret with which delegation tokens are made; the same on all brokers.";
    Class "principal.builder.class" =
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
        Any, PerBroker:
        "Java class that says who is calling; Ottla loads no Java classes.";
    Class "sasl.client.callback.handler.class" = null, Any, ReadOnly:
        "Java class of SASL client callbacks; Ottla loads no Java classes.";
    List "sasl.enabled.mechanisms" = "GSSAPI", Any, PerBroker:
        "SASL mechanisms that are offered.";
    Password "sasl.jaas.config" = null, Any, PerBroker:
        "Login settings of a SASL mechanism in JAAS format.";
    String "sasl.kerberos.kinit.cmd" = "/usr/bin/kinit", Any, PerBroker:
        "Path of the kinit command.";
    Long "sasl.kerberos.min.time.before.relogin" = "60000", Any, PerBroker:
        "Shortest time between two Kerberos logins.";
    List "sasl.kerberos.principal.to.local.rules" = "DEFAULT", Any, PerBroker:
        "Rules that turn Kerberos principals into short names.";
    String "sasl.kerberos.service.name" = null, Any, PerBroker:
        "The service's name in its Kerberos principal.";
    Double "sasl.kerberos.ticket.renew.jitter" = "0.05", Any, PerBroker:
        "Random share of the time before a Kerberos ticket is renewed.";
    Double "sasl.kerberos.ticket.renew.window.factor" = "0.8", Any, PerBroker:
        "Share of a Kerberos ticket's life after which it is renewed.";
    Class "sasl.login.callback.handler.class" = null, Any, ReadOnly:
        "Java class of SASL login callbacks; Ottla loads no Java classes.";
    Class "sasl.login.class" = null, Any, ReadOnly:
        "Java class of the SASL login; Ottla loads no Java classes.";
    Int "sasl.login.connect.timeout.ms" = null, Any, ReadOnly:
        "Time that connecting to the OAuth provider may take.";
    Int "sasl.login.read.timeout.ms" = null, Any, ReadOnly:
        "Time that an answer of the OAuth provider may take.";
    Short "sasl.login.refresh.buffer.seconds" = "300", Any, PerBroker:
        "Time before its end by which a SASL credential is renewed.";
    Short "sasl.login.refresh.min.period.seconds" = "60", Any, PerBroker:
        "Shortest time between two renewals of a SASL credential.";
    Double "sasl.login.refresh.window.factor" = "0.8", Any, PerBroker:
        "Share of a SASL credential's life after which it is renewed.";
    Double "sasl.login.refresh.window.jitter" = "0.05", Any, PerBroker:
        "Random share of the time before a SASL credential is renewed.";
    Long "sasl.login.retry.backoff.max.ms" = "10000", Any, ReadOnly:
        "Longest wait between two logins at the OAuth provider.";
    Long "sasl.login.retry.backoff.ms" = "100", Any, ReadOnly:
        "First wait between two logins at the OAuth provider.";
    String "sasl.mechanism.inter.broker.protocol" = "GSSAPI", Any, PerBroker:
        "SASL mechanism between brokers.";
    Boolean "sasl.oauthbearer.allow.unverified.audience" = "false", Any, ReadOnly:
        "Whether OAuth tokens are accepted whose audience is not checked.";
    Boolean "sasl.oauthbearer.allow.unverified.issuer" = "false", Any, ReadOnly:
        "Whether OAuth tokens are accepted whose issuer is not checked.";
    String "sasl.oauthbearer.assertion.algorithm" = "RS256",
        OneOfIgnoreCase(&["ES256", "RS256"]), ReadOnly:
        "Algorithm with which OAuth assertions are signed.";
    String "sasl.oauthbearer.assertion.claim.aud" = null, Any, ReadOnly:
        "Audience claim of OAuth assertions.";
    Int "sasl.oauthbearer.assertion.claim.exp.seconds" = "300", Between(0, 86_400), ReadOnly:
        "Seconds for which an OAuth assertion is good.";
    String "sasl.oauthbearer.assertion.claim.iss" = null, Any, ReadOnly:
        "Issuer claim of OAuth assertions.";
    Boolean "sasl.oauthbearer.assertion.claim.jti.include" = "false", Any, ReadOnly:
        "Whether OAuth assertions bear an id of their own.";
    Int "sasl.oauthbearer.assertion.claim.nbf.seconds" = "60", Between(0, 3600), ReadOnly:
        "Seconds before now from which an OAuth assertion is good.";
    String "sasl.oauthbearer.assertion.claim.sub" = null, Any, ReadOnly:
        "Subject claim of OAuth assertions.";
    String "sasl.oauthbearer.assertion.file" = null, Any, ReadOnly:
        "File that holds a ready OAuth assertion.";
    String "sasl.oauthbearer.assertion.private.key.file" = null, Any, ReadOnly:
        "File of the key that signs OAuth assertions.";
    Password "sasl.oauthbearer.assertion.private.key.passphrase" = null, Any, ReadOnly:
        "Passphrase of the key that signs OAuth assertions.";
    String "sasl.oauthbearer.assertion.template.file" = null, Any, ReadOnly:
        "File with further claims of OAuth assertions.";
    String "sasl.oauthbearer.client.credentials.client.id" = null, Any, ReadOnly:
        "Client id for the OAuth client-credentials grant.";
    Password "sasl.oauthbearer.client.credentials.client.secret" = null, Any, ReadOnly:
        "Client secret for the OAuth client-credentials grant.";
    Int "sasl.oauthbearer.clock.skew.seconds" = "30", Any, ReadOnly:
        "Seconds by which the clocks of broker and OAuth provider may differ.";
    List "sasl.oauthbearer.expected.audience" = "", Any, ReadOnly:
        "Audiences of which an OAuth token must name one.";
    String "sasl.oauthbearer.expected.issuer" = null, Any, ReadOnly:
        "Issuer that an OAuth token must name.";
    Long "sasl.oauthbearer.jwks.endpoint.refresh.ms" = "3600000", Any, ReadOnly:
        "Time between two fetches of the OAuth provider's keys.";
    Long "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms" = "10000", Any, ReadOnly:
        "Longest wait between two tries to fetch the OAuth provider's keys.";
    Long "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms" = "100", Any, ReadOnly:
        "First wait between two tries to fetch the OAuth provider's keys.";
    String "sasl.oauthbearer.jwks.endpoint.url" = null, Any, ReadOnly:
        "Where the OAuth provider's keys are found.";
    Class "sasl.oauthbearer.jwt.retriever.class" =
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever", Any, ReadOnly:
        "Java class that fetches OAuth tokens; Ottla loads no Java classes.";
    Class "sasl.oauthbearer.jwt.validator.class" =
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator", Any, ReadOnly:
        "Java class that checks OAuth tokens; Ottla loads no Java classes.";
    String "sasl.oauthbearer.scope" = null, Any, ReadOnly:
        "Scope that is asked for at the OAuth provider.";
    String "sasl.oauthbearer.scope.claim.name" = "scope", Any, ReadOnly:
        "Claim of an OAuth token that holds its scope.";
    String "sasl.oauthbearer.sub.claim.name" = "sub", Any, ReadOnly:
        "Claim of an OAuth token that holds its subject.";
    String "sasl.oauthbearer.token.endpoint.url" = null, Any, ReadOnly:
        "Where OAuth tokens are fetched.";
    Class "sasl.server.callback.handler.class" = null, Any, ReadOnly:
        "Java class of SASL server callbacks; Ottla loads no Java classes.";
    Int "sasl.server.max.receive.size" = "524288", Any, ReadOnly:
        "Largest token that is accepted during SASL authentication.";
    String "security.inter.broker.protocol" = "PLAINTEXT",
        OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), ReadOnly:
        "Security protocol between brokers, if no listener is named for it.";
    String "security.providers" = null, Any, ReadOnly:
        "Java security providers; Ottla loads no Java classes.";
    Boolean "ssl.allow.dn.changes" = "false", Any, ReadOnly:
        "Whether a new certificate may bear another distinguished name.";
    Boolean "ssl.allow.san.changes" = "false", Any, ReadOnly:
        "Whether a new certificate may drop alternative names.";
    List "ssl.cipher.suites" = "", Any, PerBroker:
        "TLS cipher suites that may be used; all if empty.";
    String "ssl.client.auth" = "none", OneOf(&["required", "requested", "none"]), PerBroker:
        "Whether clients must or may show a certificate.";
    List "ssl.enabled.protocols" = "TLSv1.2,TLSv1.3", Any, PerBroker:
        "TLS versions that may be used.";
    String "ssl.endpoint.identification.algorithm" = "https", Any, PerBroker:
        "How a server's host name is checked against its certificate.";
    Class "ssl.engine.factory.class" = null, Any, PerBroker:
        "Java class that makes TLS engines; Ottla loads no Java classes.";
    Password "ssl.key.password" = null, Any, PerBroker:
        "Password of the private key.";
    String "ssl.keymanager.algorithm" = "SunX509", Any, PerBroker:
        "Java's key manager algorithm.";
    Password "ssl.keystore.certificate.chain" = null, Any, PerBroker:
        "The certificate chain in PEM format.";
    Password "ssl.keystore.key" = null, Any, PerBroker:
        "The private key in PEM format.";
    String "ssl.keystore.location" = null, Any, PerBroker:
        "File of the private key and its certificate.";
    Password "ssl.keystore.password" = null, Any, PerBroker:
        "Password of the key file.";
    String "ssl.keystore.type" = "JKS", Any, PerBroker:
        "Format of the key file.";
    String "ssl.principal.mapping.rules" = "DEFAULT", Any, ReadOnly:
        "Rules that turn a certificate's name into a principal.";
    String "ssl.protocol" = "TLSv1.3", Any, PerBroker:
        "TLS version that is tried first.";
    String "ssl.provider" = null, Any, PerBroker:
        "Java's TLS provider.";
    String "ssl.secure.random.implementation" = null, Any, PerBroker:
        "Java's random generator for TLS.";
    String "ssl.trustmanager.algorithm" = "PKIX", Any, PerBroker:
        "Java's trust manager algorithm.";
    Password "ssl.truststore.certificates" = null, Any, PerBroker:
        "The trusted certificates in PEM format.";
    String "ssl.truststore.location" = null, Any, PerBroker:
        "File of the trusted certificates.";
    Password "ssl.truststore.password" = null, Any, PerBroker:
        "Password of the file of trusted certificates.";
    String "ssl.truststore.type" = "JKS", Any, PerBroker:
        "Format of the file of trusted certificates.";
}
