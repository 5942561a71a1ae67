"""`python -m email_gateway.cli`, which is also how child processes are started."""

from email_gateway.cli import main

if __name__ == "__main__":
    main()
