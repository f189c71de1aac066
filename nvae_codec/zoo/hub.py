"""Models of the Hugging Face Hub: ``hf://ORG/NAME`` and ``hf://ORG/NAME@REVISION``. Needs huggingface_hub."""

from pathlib import Path

from nvae_codec.errors import UnknownModelError

SCHEME = "hf://"


def fetch_model(name: str, file: str) -> Path:
    """The ``file`` of a repository, from the local cache or downloaded to it.

    Raises UnknownModelError where the name is not of that form, the package is not installed, or the repository cannot
    be reached or lacks the file.
    """
    repository, _, revision = name.removeprefix(SCHEME).partition("@")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise UnknownModelError(f"{name} needs huggingface_hub; python -m pip install 'nvae-codec[hub]'") from None
    if repository.count("/") != 1:
        raise UnknownModelError(f"{name} does not name a model as hf://ORG/NAME does")
    try:
        return Path(hf_hub_download(repository, file, revision=revision or None))
    except LocalEntryNotFoundError:
        raise UnknownModelError(
            f"{name} is not in the local cache, and the Hugging Face Hub cannot be reached"
        ) from None
    except HFValidationError:
        raise UnknownModelError(f"{name} does not name a model as hf://ORG/NAME does") from None
    except HfHubHTTPError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UnknownModelError(f"{name} cannot be downloaded: {reason}") from None
