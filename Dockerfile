# syntax=docker/dockerfile:1
FROM python:3.12-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860

# The folder is there so that a volume put in its place belongs to the user as well.
RUN useradd --create-home --uid 1000 whylens \
 && install -d -o whylens -g whylens /home/whylens/.cache /home/whylens/.cache/huggingface
WORKDIR /home/whylens/app

# Before the rest, so that a change of the code does not install anew. torch for the processor alone
# comes from its own index: the default one brings gigabytes for GPUs.
COPY requirements.txt constraints.txt ./
RUN grep -E '^(torch|torchvision)==' constraints.txt > torch.txt \
 && pip install -r torch.txt --index-url https://download.pytorch.org/whl/cpu \
 && pip install -r requirements.txt -c constraints.txt \
 && rm torch.txt

COPY pyproject.toml LICENSE README.md demo.py ./
COPY whylens whylens
COPY core core
COPY plugins plugins
COPY ui ui
COPY checkpoints checkpoints
COPY examples examples

USER 1000:1000
EXPOSE 7860
# Exec form: SIGTERM must reach Python itself, which then removes visitors' files.
CMD ["python", "demo.py"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/health', timeout=4)"]
