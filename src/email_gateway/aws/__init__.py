"""What runs inside AWS: the rotation function, packaged alone by `email-gateway aws rotation-zip`.

It imports the standard library, boto3 and itself, nothing else of this package, so that its zip stays
small and a release of the gateway does not oblige anyone to upload it again. It has no database, and
derives no keys: the gateway does the work, over HTTP.
"""
