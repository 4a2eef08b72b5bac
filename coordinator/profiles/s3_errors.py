"""What S3 and its SDK report, as one line that says where, why, and what to do.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. The server's own words are never
shown: they may hold key ids and signed text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError
from urllib3 import exceptions as http

from coordinator.profiles.errors import S3Refused, S3Unreachable

THROTTLED: Final = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "429", "503"})
OBJECT_REFUSED: Final = frozenset({"AccessDenied", "AllAccessDisabled", "InvalidObjectState"})
"""Codes that may concern one object alone."""
_CREDENTIALS: Final = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the role"
_CODES: Final = {
    "NoSuchBucket": ("the bucket does not exist", "check AUTH_PROFILE_S3_BUCKET, the region and the endpoint"),
    "InvalidBucketName": ("S3 takes no such bucket name", "check AUTH_PROFILE_S3_BUCKET"),
    "InvalidAccessKeyId": ("the access key id is unknown", _CREDENTIALS),
    "SignatureDoesNotMatch": ("the secret access key is wrong", _CREDENTIALS),
    "ExpiredToken": ("the session token has expired", "renew the credentials"),
    "InvalidToken": ("the session token is not valid", _CREDENTIALS),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "set it; S3 allows 15 minutes"),
    "PermanentRedirect": ("the bucket is in another region", "set AUTH_PROFILE_S3_REGION"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "set AUTH_PROFILE_S3_REGION"),
    "InvalidObjectState": ("it is archived", "restore it to a storage class that can be read at once"),
    "AllAccessDisabled": ("all access to it is disabled", "ask the owner of the bucket"),
}
_ALIASES: Final = {
    "ExpiredTokenException": "ExpiredToken",
    "TokenRefreshRequired": "ExpiredToken",
    "InvalidClientTokenId": "InvalidToken",
    "UnrecognizedClientException": "InvalidToken",
    "301": "PermanentRedirect",
    "403": "AccessDenied",
}


@dataclass(frozen=True)
class Attempt:
    """What was being done: `uri` was to be `done`, which needs a `permission`, said as what to do."""

    done: str
    uri: str
    permission: str
    endpoint: str = ""
    read_timeout_s: float = 0.0

    @property
    def host(self) -> str:
        """The endpoint without user, password and path."""
        return _host(self.endpoint)


def error_code(error: Exception) -> str:
    """Return S3's code, such as ``NoSuchBucket``; "" if the error did not come from a server."""
    if not isinstance(error, sdk.ClientError):
        return ""
    code = str(error.response.get("Error", {}).get("Code", "")) or str(_status(error))
    code = code if re.fullmatch(r"[A-Za-z0-9._]{1,60}", code) else "an unknown code"
    return _ALIASES.get(code, code)


def explain(error: Exception, attempt: Attempt) -> S3Refused | S3Unreachable:
    """Return the error for the operator."""
    if isinstance(error, sdk.ClientError):
        code = error_code(error)
        if code in THROTTLED or _status(error) >= 500:
            does = "throttles requests" if code in THROTTLED else "fails"
            return S3Unreachable(f"{_cannot(attempt)}: {attempt.host} {does} ({code}); try again later")
        # Any other operation is one of STS, done to get the credentials.
        if error.operation_name not in {"ListObjectsV2", "GetObject", "PutObject"}:
            cause = f"the role cannot be taken on ({error.operation_name}: {code})"
            return S3Refused(f"{_cannot(attempt)}: {cause}; {_CREDENTIALS}")
        return S3Refused(f"{_cannot(attempt)}: {refusal(code, attempt)}")
    for kinds, cause, cure in _LOCAL:
        if isinstance(error, kinds):
            return S3Refused(f"{_cannot(attempt)}: {cause.format(host=attempt.host)}; {cure}")
    if isinstance(error, _UNREACHABLE):
        return S3Unreachable(f"{_cannot(attempt)}: {_silence(error, attempt)}")
    name = type(error).__name__
    return S3Refused(f"{_cannot(attempt)}: the AWS SDK failed ({name}); check the AWS_ variables and configuration")


def refusal(code: str, attempt: Attempt) -> str:
    """Return cause and cure of a code, without the place."""
    if code == "AccessDenied":
        return f"the credentials are not allowed to (AccessDenied); {attempt.permission}"
    cause, cure = _CODES.get(code, ("S3 refuses", "look up the code in the documentation of your storage"))
    return f"{cause} ({code}); {cure}"


_UNREACHABLE: Final = (
    sdk.EndpointConnectionError,
    sdk.ConnectionClosedError,
    sdk.ConnectTimeoutError,
    sdk.ReadTimeoutError,
    sdk.ProxyConnectionError,
    sdk.ResponseStreamingError,
    sdk.IncompleteReadError,
    http.HTTPError,
    OSError,
)


def _cannot(attempt: Attempt) -> str:
    return f"{attempt.uri} cannot be {attempt.done}"


def _status(error: sdk.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _host(address: str) -> str:
    parts = urlsplit(address)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or 'the endpoint'}{port}"


def _silence(error: Exception, attempt: Attempt) -> str:
    # It may be another service that is silent: the one that gives out credentials.
    host = _host(str(getattr(error, "kwargs", {}).get("endpoint_url") or attempt.endpoint))
    advice = "check AWS_ENDPOINT_URL_S3, the region and the network"
    match error:
        case sdk.ProxyConnectionError():
            return "the proxy does not answer; check HTTPS_PROXY and NO_PROXY"
        case sdk.ReadTimeoutError():
            return (
                f"{host} takes the connection but says nothing for {attempt.read_timeout_s:g} seconds"
                " (AUTH_PROFILE_S3_READ_TIMEOUT_S); " + advice
            )
        case sdk.ConnectTimeoutError() | sdk.EndpointConnectionError():
            return f"{host} does not answer; {advice}"
    return f"{host} broke the connection off; try again later"


_LOCAL: Final[tuple[tuple[tuple[type[Exception], ...], str, str], ...]] = (
    (
        (sdk.NoCredentialsError,),
        "there are no AWS credentials",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a role",
    ),
    ((sdk.PartialCredentialsError,), "the AWS credentials are incomplete", _CREDENTIALS),
    ((sdk.NoRegionError,), "there is no AWS region", "set AUTH_PROFILE_S3_REGION or AWS_REGION"),
    ((sdk.ProfileNotFound,), "AWS_PROFILE names a profile that the AWS configuration lacks", "check AWS_PROFILE"),
    ((sdk.SSOError, sdk.TokenRetrievalError), "the single sign-on session has ended", "run aws sso login"),
    (
        (sdk.CredentialRetrievalError, sdk.MetadataRetrievalError),
        "the AWS credentials could not be fetched",
        _CREDENTIALS,
    ),
    ((sdk.SSLError,), "the certificate of {host} is not trusted", "name its authority in EXTRA_CA_FILE"),
    ((sdk.ParamValidationError,), *_CODES["InvalidBucketName"]),
    ((ResponseParserError,), "{host} does not speak S3", "check AWS_ENDPOINT_URL_S3"),
    ((sdk.ConfigParseError, sdk.ConfigNotFound), "the AWS configuration file cannot be read", "check AWS_CONFIG_FILE"),
    ((ValueError,), "the endpoint is not an address", "check AWS_ENDPOINT_URL_S3"),
)
