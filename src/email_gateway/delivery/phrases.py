r"""What servers say in words, as patterns: the reason that a sentence gives.

Two tables. What `BEFORE_CODES` finds outweighs the enhanced code, since servers put whatever code they
like beside such a sentence (Google says "Daily user sending limit exceeded" under 5.4.5, "routing").
`AFTER_CODES` is for codes that say little: 5.7.1, 5.0.0, a bare 550. In each the first match counts, so
a sentence about the recipient stands before a looser one about us: "mailbox unavailable or access
denied" is the recipient's, "access denied" alone is ours.

Every pattern is linear: gaps are counted (`(?:\w+ ){0,3}`), nothing that repeats repeats again.
"""

import re

from email_gateway.delivery.reply_parser import Reply

_BRACKETS = re.compile(r"<[^<>]*>")
_QUOTED_LOCAL_PART = re.compile(r'"[^"]*"@')
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")

_NOT_ALLOWED = r"not (?:\w+ )?(?:allowed|permitted|authori[sz]ed)"
_STOPPED = r"(?:paused|suspended|disabled|blocked|restricted|revoked|banned|deactivated)"
_LISTED = r"(?:black|block|deny)-? ?list"
_PERIOD = r"(?:second|minute|hour|day|month|today)"

BEFORE_CODES = (
    # Not a rate: the next connection takes more.
    (
        "service_closing",
        (
            r"(?:messages|e?-?mails|transactions) (?:\w+ ){0,2}(?:in|on|for|per|during|over)"
            r" (?:this|one|the|a|your) (?:\w+ ){0,2}(?:session|connection)"
        ),
    ),
    ("client_refused", r"too many (?:invalid|unknown|bad|non-?existent)|to send (?:e-?)?mail directly"),
    (
        "recipient_refused",
        (
            r"(?:rejected|blocked|refused|denied) by (?:the |this )?(?:recipients?|user|addressee)\b"
            r"|recipient (?:has |have )?(?:blocked|rejected|refused)|(?:does|do)(?:n't| not) accept mail from you"
            r"|resolver\.rst\.|not authenticated by organi[sz]ation|banned recipient|recipient is not allowed"
            rf"|{_NOT_ALLOWED} to (?:send|deliver|mail) (?:\w+ ){{0,2}}to\b|recipient address rejected: access denied"
            r"|recipient (?:address )?(?:\w+ ){0,2}denied"
        ),
    ),
    (
        "mailbox_busy",
        (
            r"receiving mail (?:too quickly|at a rate)|receivingrate|receiv(?:e|ing) limit"
            r"|recipient thread limit|mailbox concurrency|to this (?:user|mailbox|recipient) too (?:often|fast)"
            r"|recipient (?:has )?exceeded (?:\w+ ){0,4}(?:rate|messages|limit)"
        ),
    ),
    ("greylisted", r"gr[ea]y-? ?list|\[gl01\]|postgrey"),
    (
        "sending_quota_exceeded",
        (
            r"(?:daily|hourly|weekly|monthly|24-hour) (?:\w+ ){0,4}(?:limits?|quota)\b"
            r"|(?:submission|sending|send|outgoing|outbound|relay|messaging) (?:\w+ )?(?:limits?|quota)\b"
            r"|maximum credits|exceeded the max (?:emails|defers)|exceeded (?:its |the |a )?threshold"
            r"|limite (?:de envio|di\S{1,4}rio|por hora)"
        ),
    ),
    (
        "too_many_connections",
        (
            r"too many (?:\w+ ){0,3}(?:connections|sessions)\b"
            r"|(?:concurrent|simultaneous) (?:\w+ ){0,3}(?:connections|sessions)"
            r"|connections? (?:limit|count)\b|number of (?:\w+ ){0,2}connections"
        ),
    ),
    (
        "rate_limited",
        (
            r"throttl|rate.?limit|sending rate|unusual (?:rate|sending|volume)|unexpected volume"
            r"|excessive (?:\w+ )?(?:rate|volume)|(?:message|mail|connection|delivery) rate\b|temporarily deferred"
            r"|too (?:many|much) (?:\w+ )?(?:messages|e?-?mails?)\b(?! data)|server (?:is )?(?:too )?busy"
            r"|slow down|frequency limited|mail flood"
            r"|sending (?:\w+ ){0,3}too (?:fast|quickly)|exceeded permitted limits"
            rf"|(?:messages|e?-?mails|recipients)(?: \S+){{0,3}} ?(?:per|an|in one|/) ?{_PERIOD}|messages/h"
            rf"|too many recipients (?:\w+ ){{0,3}}{_PERIOD}"
        ),
    ),
    (
        "too_many_recipients",
        (
            r"too many (?:recipients|rcpts?)\b|number of recipients|multiple destination domains"
            r"|recipients? (?:count|limit) (?:exceeded|reached)"
        ),
    ),
    ("permission_denied", r"not authori[sz]ed to perform|ses:send"),
    (
        "account_suspended",
        (
            rf"\b(?:sending|outgoing|outbound)(?: \w+){{0,5}} (?:denied|{_STOPPED})"
            rf"|{_STOPPED} from sending|(?:mail|email) sending denied|spam abuse|account is pending"
            rf"|your (?:\w+ ){{0,3}}(?:account|tenant|subscription)(?: \w+){{0,4}} (?:{_STOPPED}|inactive|closed)"
            r"|your (?:\w+ ){0,3}account(?: \w+){0,2} not (?:yet )?(?:activated|active|validated|verified|approved)"
            rf"|(?:sender|sending|smtp|authenticated)(?:'s)? (?:account|user)(?: \w+){{0,4}} {_STOPPED}"
        ),
    ),
    (
        "tls_required",
        (
            r"must (?:issue|use|send) (?:a )?(?:starttls|tls)|starttls (?:\w+ )?(?:required|first)"
            r"|encryption (?:is )?(?:required|needed)|requires? (?:\w+ )?(?:starttls|tls|encryption)\b"
            r"|tls (?:\w+ ){0,2}(?:required|needed)"
        ),
    ),
    (
        "sender_unauthenticated",
        (
            r"\bdmarc|\bdkim|\bspf\b|(?:sender|message|domain|e-?mail) authentication"
            r"|unauthenticated (?:e?-?mail|message)|sender is unauthenticated|authentication level"
        ),
    ),
    (
        "relay_denied",
        (
            r"relay(?:ing)? (?:\w+ ){0,2}(?:denied|prohibited|disallowed)|relay(?:ing)? (?:\w+ )?"
            rf"{_NOT_ALLOWED}|(?:{_NOT_ALLOWED}|unable|isn't allowed) to relay|cannot relay|no relaying"
            r"|not (?:allow|permit|accept) relay|(?:credentials|authorized|registered) for relay|rcpthosts"
        ),
    ),
    (
        "auth_failed",
        (
            r"authentication (?:is )?(?:required|failed|needed|unsuccessful|credentials invalid)"
            r"|requires? (?:smtp )?authentication|authenticate (?:first|before)|turn on smtp auth|not authenticated"
            r"|(?:invalid|incorrect|bad|wrong) (?:\w+ )?(?:credentials|password|authentication|login)"
            r"|unauthenticated senders?|autentica\S{1,8} (?:\w+ )?(?:obrigat|necess|requerid|falhou)"
        ),
    ),
    (
        "reverse_dns_missing",
        (
            r"reverse (?:dns|host|lookup|address|name|mapping)|\brdns\b|\bptr\b|dns reverso"
            r"|cannot find your (?:\w+ )?hostname"
        ),
    ),
    (
        "helo_refused",
        (
            r"(?:bad|invalid|illegal|forged) (?:helo|ehlo)\b"
            r"|(?:helo|ehlo)(?: \S+){0,3} (?:rejected|invalid|denied|refused|not|must)\b"
        ),
    ),
    (
        "sender_blocklisted",
        (
            rf"your (?:\w+ )?domain (?:\w+ ){{0,4}}(?:{_LISTED}|{_STOPPED})|banned sender"
            rf"|(?:sender|sending|from)(?:'s)? (?:domain|address)(?: \w+){{0,4}} (?:{_LISTED}|{_STOPPED})"
            rf"|sender (?:\w+ ){{0,2}}(?:{_LISTED}|{_STOPPED})"
            r"|reputation of (?:a|the|your) (?:\w+ ){0,2}domain|domain (?:\w+ )?reputation"
        ),
    ),
    (
        "sender_refused",
        (
            r"sender (?:\w+ )?(?:rejected|refused|denied|invalid|mismatch)|sender (?:verify|verification)"
            rf"|(?:invalid|bad|bad outbound) sender|sender {_NOT_ALLOWED}|send-?as-?denied|{_NOT_ALLOWED} to send"
            r"|permissions? to send|(?:sender|sending) domain|domain of sender|sender (?:\w+ ){0,3}has no"
            r"|dns check failed|verified sender|address is not verified|identities failed|sender signature"
            r"|(?:from|sender) (?:address|identity|domain) (?:\w+ ){0,4}not (?:\w+ )?(?:verified|match|owned|exist|confirm)"
            r"|not owned by|unregistered domain|remetente (?:\S+ ){0,3}(?:inv|n\S{1,4}o|recus|bloque|rejeit)"
        ),
    ),
    (
        "mailbox_full",
        (
            r"(?:mailbox|inbox|mail ?box|recipient|user|account|storage|disk|extended|over)(?:'s)?"
            r" ?(?:\w+ ){0,4}quota|over ?quota|quota (?:\w+ ){0,3}(?:exceeded|full)|mailbox (?:\w+ ){0,2}full\b"
            r"|mailbox limit|out of storage|storage allocation|not enough (?:\w+ )?space"
            r"|caixa (?:\S+ ){0,2}(?:cheia|lotada)"
        ),
    ),
)

AFTER_CODES = (
    ("malware", r"virus|malware|infected|phishing"),
    (
        "content_refused",
        (
            r"(?:because|due to) (?:its|the) content|content (?:\w+ )?(?:rejected|denied|blocked)"
            r"|content policy|line (?:is )?too long|must be rfc|rfc 5322|not rfc|malformed (?:message|mail|header)"
            r"|attachment (?:\w+ ){0,3}(?:blocked|not allowed|rejected)|bare (?:lf|cr|newline)|header (?:\w+ )?(?:missing|invalid)"
        ),
    ),
    (
        "message_too_large",
        (
            r"message (?:\w+ ){0,3}(?:too (?:big|large)|exceeds)|size (?:limit )?exceed|exceed\w* (?:\w+ ){0,4}size"
            r"|maximum (?:message )?size|too much mail data"
        ),
    ),
    ("mail_loop", r"mail ?loop|too many (?:hops|received)|hop count|loops back|routing loop"),
    (
        "mailbox_disabled",
        (
            r"(?:account|mailbox|user|inbox|recipient)(?: \w+){0,3}"
            rf" (?:{_STOPPED}|inactive|closed|locked|expired|not (?:\w+ )?active|not (?:\w+ )?activated)"
            r"|(?:address|mailbox|user|account|recipient)(?: \w+){0,2} no longer|disableduser|conta (?:\S+ ){0,2}(?:bloquead|suspens|desativad|inativ|cancelad)"
            r"|requires an upgrade to enhanced protection"
        ),
    ),
    (
        "domain_unknown",
        (
            r"(?:no such|unknown|invalid|bad destination) (?:domain|host)\b|\bno mx\b|null ?mx"
            r"|domain (?:name )?(?:is )?(?:not found|unknown|invalid)|domain (?:\S+ ){0,2}does(?:n't| not) exist"
            r"|find the recipient domain|host (?:is )?(?:unknown|not found)"
        ),
    ),
    (
        "address_invalid",
        (
            r"(?:bad|malformed|illegal) (?:\w+ )?address|address (?:\w+ )?(?:syntax|invalid|malformed)"
            r"|mailbox name (?:not allowed|invalid)|fully-?qualified"
        ),
    ),
    (
        "mailbox_unavailable",
        r"(?:mailbox|user|account|address|recipient)(?: \w+){0,2} temporarily|(?:user|account|address) unavailable",
    ),
    (
        "mailbox_unknown",
        (
            r"(?:no such|unknown|invalid|unrouteable|non-?existent|not a valid)"
            r" (?:user|mailbox|recipient|address|account|customer|person|id\b)|no mail-?box|not our customer"
            r"|(?:user|mailbox|recipient|address|account|customer)(?:name)? (?:\w+ ){0,3}(?:unknown|unrecognized"
            r"|do(?:es)?(?:n't| not) exist|not found)|invalid mailbox|mailbox unavailable|doesn't have a \S+ account"
            r"|(?:usu\S{1,4}rio|destinat\S{1,4}rio|conta|caixa postal|e-?mail) (?:\S+ ){0,2}"
            r"(?:inexistente|desconhecid|inv\S{1,4}lid|n\S{1,4}o (?:existe|encontrad))|utilisateur inconnu"
        ),
    ),
    (
        "address_refused",
        (
            r"address (?:\w+ )?rejected|undeliverable address|one or more recipients"
            r"|(?:could not|cannot) deliver mail (?:for|to)\b"
        ),
    ),
    (
        "spam",
        (
            r"spam(?:my)? (?:\w+ )?(?:content|message|pattern|text|or virus|detected)|(?:as|is|be|reject\w*|because) "
            r"(?:\w+ ){0,2}(?:spam|junk)\b|spamtext|unsolicited|junk ?mail|message (?:\w+ ){0,3}(?:blocked|denied)"
            r"|spam message|url in this|mensagem (?:\S+ ){0,2}(?:bloquead|rejeitad)"
        ),
    ),
    ("destination_refused", rf"domain (?:\w+ ){{0,3}}(?:{_STOPPED}|inactive|expired|not accepting)"),
    ("reputation_low", r"reputation|complaints"),
    (
        "blocklisted",
        (
            rf"{_LISTED}|\bdnsbl\b|\brbls?\b|spamhaus|spamcop|barracuda|abuseat|ivmsip|dynamic ip|banned sending"
            r"|blocked|your (?:ip|network)\b|sending ip\b|from this ip|connections (?:\w+ ){0,3}not (?:be )?accepted|bloquead"
        ),
    ),
    (
        "client_refused",
        (
            r"(?:client|host|ip)(?: \S+){0,3} (?:rejected|refused|denied|unauthori[sz]ed|not (?:allowed|authori[sz]ed))"
            r"|unauthori[sz]ed ip|access (?:is |to \w+ )?(?:denied|forbidden|prohibited)|your access to (?:this|submit)"
        ),
    ),
    ("spam", r"spam"),
    ("policy", r"polic(?:y|ies)|prohibit"),
)

_BEFORE = tuple((reason, re.compile(pattern)) for reason, pattern in BEFORE_CODES)
_AFTER = tuple((reason, re.compile(pattern)) for reason, pattern in AFTER_CODES)


def words_of(reply: Reply) -> str:
    """Return what a server says in lower case, without what it repeats of others and without codes.

    An address may hold any word of the tables, so everything in angle brackets and every word with an
    `@` is left out. The lines of a long reply each begin with the code, in the middle of a sentence.
    """
    text = _QUOTED_LOCAL_PART.sub("@", _BRACKETS.sub(" ", reply.text)).lower()
    return " ".join(word for word in text.split() if "@" not in word and not _ENHANCED.fullmatch(word))


def find_before_codes(words: str) -> str | None:
    """Return the reason of a sentence that outweighs its enhanced code."""
    return _first(_BEFORE, words)


def find_after_codes(words: str) -> str | None:
    """Return the reason of a sentence beside a code that says little."""
    return _first(_AFTER, words)


def _first(patterns: tuple[tuple[str, re.Pattern[str]], ...], words: str) -> str | None:
    return next((reason for reason, pattern in patterns if pattern.search(words)), None)
