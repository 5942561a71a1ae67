"""What must come of one mail when a server misbehaves in one way at one stage, with PIPELINING and without: 110 cases.

A row: the stage; what the server does there; verdict; where the conversation ended; reason; whom it speaks of;
whether the server has the mail; the delivery's state; whether the attempt counts; when it is tried again. What is held
keeps its turn, and the route decides when it comes.
"""

GRID = """
connect   hang                      held       at connect   timeout           route      not taken  queued     not counted  in its turn
connect   drop                      held       at connect   connect_failed    route      not taken  queued     not counted  in its turn
connect   421                       none: nothing is said before there is a connection
connect   4xx                       none: nothing is said before there is a connection
connect   5xx                       none: nothing is said before there is a connection
connect   garbage                   none: nothing is said before there is a connection
connect   drip                      none: nothing is said before there is a connection
connect   endless reply             none: nothing is said before there is a connection
connect   NUL and 8-bit             none: nothing is said before there is a connection
connect   wrong 2xx or 354          none: nothing is said before there is a connection
connect   reply before the command  none: nothing is said before there is a connection

banner    hang                      held       at connect   timeout           route      not taken  queued     not counted  in its turn
banner    drop                      held       at connect   connection_lost   route      not taken  queued     not counted  in its turn
banner    421                       held       at connect   service_closing   route      not taken  queued     not counted  in its turn
banner    4xx                       held       at connect   server_trouble    route      not taken  queued     not counted  in its turn
banner    5xx                       held       at connect   server_trouble    route      not taken  queued     not counted  in its turn
banner    garbage                   held       at connect   protocol_error    route      not taken  queued     not counted  in its turn
banner    drip                      held       at connect   timeout           route      not taken  queued     not counted  in its turn
banner    endless reply             held       at connect   protocol_error    route      not taken  queued     not counted  in its turn
banner    NUL and 8-bit             delivered  at dot       accepted          recipient  taken      delivered  counted      never again
banner    wrong 2xx or 354          held       at connect   protocol_error    route      not taken  queued     not counted  in its turn
banner    reply before the command  none: the banner answers no command

EHLO      hang                      held       at ehlo      timeout           route      not taken  queued     not counted  in its turn
EHLO      drop                      held       at ehlo      connection_lost   route      not taken  queued     not counted  in its turn
EHLO      421                       held       at ehlo      service_closing   route      not taken  queued     not counted  in its turn
EHLO      4xx                       held       at ehlo      server_trouble    route      not taken  queued     not counted  in its turn
EHLO      5xx                       held       at ehlo      server_trouble    route      not taken  queued     not counted  in its turn
EHLO      garbage                   held       at ehlo      protocol_error    route      not taken  queued     not counted  in its turn
EHLO      drip                      held       at ehlo      timeout           route      not taken  queued     not counted  in its turn
EHLO      endless reply             held       at ehlo      protocol_error    route      not taken  queued     not counted  in its turn
EHLO      NUL and 8-bit             delivered  at dot       accepted          recipient  taken      delivered  counted      never again
EHLO      wrong 2xx or 354          held       at ehlo      protocol_error    route      not taken  queued     not counted  in its turn
EHLO      reply before the command  held       at connect   protocol_error    route      not taken  queued     not counted  in its turn

STARTTLS  hang                      held       at starttls  timeout           route      not taken  queued     not counted  in its turn
STARTTLS  drop                      held       at starttls  connection_lost   route      not taken  queued     not counted  in its turn
STARTTLS  421                       held       at starttls  service_closing   route      not taken  queued     not counted  in its turn
STARTTLS  4xx                       held       at starttls  tls_refused       route      not taken  queued     not counted  in its turn
STARTTLS  5xx                       held       at starttls  tls_refused       route      not taken  queued     not counted  in its turn
STARTTLS  garbage                   held       at starttls  protocol_error    route      not taken  queued     not counted  in its turn
STARTTLS  drip                      held       at starttls  timeout           route      not taken  queued     not counted  in its turn
STARTTLS  endless reply             held       at starttls  protocol_error    route      not taken  queued     not counted  in its turn
STARTTLS  NUL and 8-bit             delivered  at dot       accepted          recipient  taken      delivered  counted      never again
STARTTLS  wrong 2xx or 354          held       at starttls  protocol_error    route      not taken  queued     not counted  in its turn
STARTTLS  reply before the command  held       at ehlo      protocol_error    route      not taken  queued     not counted  in its turn

AUTH      hang                      held       at auth      timeout           route      not taken  queued     not counted  in its turn
AUTH      drop                      held       at auth      connection_lost   route      not taken  queued     not counted  in its turn
AUTH      421                       held       at auth      service_closing   route      not taken  queued     not counted  in its turn
AUTH      4xx                       held       at auth      auth_unavailable  route      not taken  queued     not counted  in its turn
AUTH      5xx                       held       at auth      auth_failed       ours       not taken  queued     not counted  in its turn
AUTH      garbage                   held       at auth      protocol_error    route      not taken  queued     not counted  in its turn
AUTH      drip                      held       at auth      timeout           route      not taken  queued     not counted  in its turn
AUTH      endless reply             held       at auth      protocol_error    route      not taken  queued     not counted  in its turn
AUTH      NUL and 8-bit             delivered  at dot       accepted          recipient  taken      delivered  counted      never again
AUTH      wrong 2xx or 354          held       at auth      protocol_error    route      not taken  queued     not counted  in its turn
AUTH      reply before the command  held       at ehlo      protocol_error    route      not taken  queued     not counted  in its turn

MAIL      hang                      held       at mail      timeout           route      not taken  queued     not counted  in its turn
MAIL      drop                      held       at mail      connection_lost   route      not taken  queued     not counted  in its turn
MAIL      421                       held       at mail      service_closing   route      not taken  queued     not counted  in its turn
MAIL      4xx                       held       at mail      server_trouble    route      not taken  queued     not counted  in its turn
MAIL      5xx                       held       at mail      server_trouble    sender     not taken  queued     not counted  in its turn
MAIL      garbage                   held       at mail      protocol_error    route      not taken  queued     not counted  in its turn
MAIL      drip                      held       at mail      timeout           route      not taken  queued     not counted  in its turn
MAIL      endless reply             held       at mail      protocol_error    route      not taken  queued     not counted  in its turn
MAIL      NUL and 8-bit             delivered  at dot       accepted          recipient  taken      delivered  counted      never again
MAIL      wrong 2xx or 354          held       at mail      protocol_error    route      not taken  queued     not counted  in its turn
MAIL      reply before the command  held       at auth      protocol_error    route      not taken  queued     not counted  in its turn

RCPT      hang                      deferred   at rcpt      timeout           message    not taken  queued     counted      in a minute
RCPT      drop                      deferred   at rcpt      connection_lost   message    not taken  queued     counted      in a minute
RCPT      421                       held       at rcpt      service_closing   route      not taken  queued     not counted  in its turn
RCPT      4xx                       deferred   at rcpt      server_trouble    recipient  not taken  queued     counted      in a minute
RCPT      5xx                       bounced    at rcpt      server_trouble    recipient  not taken  bounced    counted      never again
RCPT      garbage                   deferred   at rcpt      protocol_error    message    not taken  queued     counted      in a minute
RCPT      drip                      deferred   at rcpt      timeout           message    not taken  queued     counted      in a minute
RCPT      endless reply             deferred   at rcpt      protocol_error    message    not taken  queued     counted      in a minute
RCPT      NUL and 8-bit             delivered  at dot       accepted          recipient  taken      delivered  counted      never again
RCPT      wrong 2xx or 354          deferred   at rcpt      protocol_error    message    not taken  queued     counted      in a minute
RCPT      reply before the command  held       at mail      protocol_error    route      not taken  queued     not counted  in its turn

DATA      hang                      deferred   at data      timeout           message    not taken  queued     counted      in a minute
DATA      drop                      deferred   at data      connection_lost   message    not taken  queued     counted      in a minute
DATA      421                       held       at data      service_closing   route      not taken  queued     not counted  in its turn
DATA      4xx                       deferred   at data      server_trouble    message    not taken  queued     counted      in a minute
DATA      5xx                       deferred   at data      server_trouble    message    not taken  queued     counted      in a minute
DATA      garbage                   deferred   at data      protocol_error    message    not taken  queued     counted      in a minute
DATA      drip                      deferred   at data      timeout           message    not taken  queued     counted      in a minute
DATA      endless reply             deferred   at data      protocol_error    message    not taken  queued     counted      in a minute
DATA      NUL and 8-bit             delivered  at dot       accepted          recipient  taken      delivered  counted      never again
DATA      wrong 2xx or 354          deferred   at data      protocol_error    message    not taken  queued     counted      in a minute
DATA      reply before the command  deferred   at rcpt      protocol_error    message    not taken  queued     counted      in a minute

dot       hang                      in_doubt   at dot       timeout           route      not taken  queued     counted      in a minute
dot       drop                      in_doubt   at dot       connection_lost   route      not taken  queued     counted      in a minute
dot       421                       held       at dot       service_closing   route      not taken  queued     not counted  in its turn
dot       4xx                       deferred   at dot       server_trouble    message    not taken  queued     counted      in a minute
dot       5xx                       bounced    at dot       server_trouble    message    not taken  bounced    counted      never again
dot       garbage                   in_doubt   at dot       protocol_error    route      not taken  queued     counted      in a minute
dot       drip                      in_doubt   at dot       timeout           route      not taken  queued     counted      in a minute
dot       endless reply             in_doubt   at dot       protocol_error    route      taken      queued     counted      in a minute
dot       NUL and 8-bit             delivered  at dot       accepted          recipient  taken      delivered  counted      never again
dot       wrong 2xx or 354          in_doubt   at dot       protocol_error    route      not taken  queued     counted      in a minute
dot       reply before the command  deferred   at data      protocol_error    message    not taken  queued     counted      in a minute

QUIT      hang                      delivered  at dot       accepted          recipient  taken      delivered  counted      never again
QUIT      drop                      delivered  at dot       accepted          recipient  taken      delivered  counted      never again
QUIT      421                       delivered  at dot       accepted          recipient  taken      delivered  counted      never again
QUIT      4xx                       delivered  at dot       accepted          recipient  taken      delivered  counted      never again
QUIT      5xx                       delivered  at dot       accepted          recipient  taken      delivered  counted      never again
QUIT      garbage                   delivered  at dot       accepted          recipient  taken      delivered  counted      never again
QUIT      drip                      delivered  at dot       accepted          recipient  taken      delivered  counted      never again
QUIT      endless reply             delivered  at dot       accepted          recipient  taken      delivered  counted      never again
QUIT      NUL and 8-bit             delivered  at dot       accepted          recipient  taken      delivered  counted      never again
QUIT      wrong 2xx or 354          delivered  at dot       accepted          recipient  taken      delivered  counted      never again
QUIT      reply before the command  in_doubt   at dot       protocol_error    route      taken      queued     counted      in a minute
"""
