"""The route table of the server, the OpenAPI document and the tests."""

from __future__ import annotations

from edgead.web import alert_handlers as alerts
from edgead.web import alert_models, camera_models, models
from edgead.web import camera_handlers as cameras
from edgead.web import collection_handlers as collections
from edgead.web import frame_handlers as frames
from edgead.web import model_handlers as line_models
from edgead.web import shadow_handlers as shadows
from edgead.web import stream_handlers as stream
from edgead.web import teaching_handlers as teaching
from edgead.web.endpoint import Endpoint

API = "/api/v1"
_CAMERA = f"{API}/cameras/{{camera}}"
_ALERT = f"{API}/alerts/{{alert}}"
_TEACHING = f"{_CAMERA}/teaching"
_PLAIN = "text/plain"

ENDPOINTS = (
    Endpoint("POST", f"{API}/session", stream.log_in, "Log in with the token; sets a cookie.",
             body=models.Login, status=204, access="open"),
    Endpoint("DELETE", f"{API}/session", stream.log_out, "Log out.", status=204),
    Endpoint("GET", f"{API}/session", stream.who, "Who is logged in.", models.Who),
    Endpoint("GET", f"{API}/info", stream.info, "Device, bundle, engine, spool and sinks.", models.Info),
    Endpoint("GET", f"{API}/cameras", cameras.cameras, "Current state of all cameras.", camera_models.Cameras),
    Endpoint("GET", _CAMERA, cameras.camera, "Current state of one camera.", camera_models.CameraAnswer, errors=(404,)),
    Endpoint("GET", f"{_CAMERA}/picture.jpg", cameras.picture, "Newest frame as JPEG; the header X-Frame is its index.",
             query=camera_models.PictureQuery, media="image/jpeg", errors=(404, 503)),
    Endpoint("GET", f"{_CAMERA}/live", cameras.live, "Live frames as MJPEG, at most ten per second.",
             query=camera_models.PictureQuery, media="multipart/x-mixed-replace", errors=(404, 503)),
    Endpoint("GET", f"{_CAMERA}/scores", cameras.scores, "Score history and alerts of a zone.", camera_models.Scores,
             query=camera_models.ScoresQuery, errors=(404,)),
    Endpoint("GET", f"{_CAMERA}/zones/{{zone}}/threshold", cameras.preview_threshold,
             "The threshold that a change would give; nothing is changed.", camera_models.ThresholdAnswer,
             query=camera_models.ThresholdPreview, errors=(404, 409, 422)),
    Endpoint("PUT", f"{_CAMERA}/zones/{{zone}}/threshold", cameras.set_threshold,
             "Change the threshold, from the next frame on.", camera_models.ThresholdAnswer,
             body=camera_models.ThresholdRequest, errors=(404, 409, 503)),
    Endpoint("POST", f"{_CAMERA}/frames", frames.hold, "Hold the frame shown now, for a person to judge it.", frames.HeldAnswer,
             body=frames.HoldRequest, status=201, errors=(404, 409, 503)),
    Endpoint("GET", f"{_CAMERA}/frames/{{held}}/picture.jpg", frames.picture, "A held frame as JPEG, without a heatmap.",
             query=frames.HeldPictureQuery, media="image/jpeg", errors=(404,)),
    Endpoint("POST", f"{_CAMERA}/frames/{{held}}/judge", frames.judge,
             "Judge a held frame, defect, good or unsure; it is stored losslessly.", frames.JudgedFrame,
             body=frames.FrameJudgement, errors=(404, 409, 503)),
    Endpoint("GET", f"{_CAMERA}/collection", collections.collection, "Pictures of good parts that are being collected.",
             collections.CollectionAnswer, errors=(404, 409)),
    Endpoint("PUT", f"{_CAMERA}/collection", collections.change, "Start or stop collecting pictures of good parts.",
             collections.CollectionAnswer, body=collections.CollectionRequest, errors=(404, 409, 503)),
    Endpoint("GET", _TEACHING, teaching.teaching, "Teaching of a new part: accepted pictures, left-out scores, verdict.",
             teaching.TeachingAnswer, errors=(404, 409)),
    Endpoint("POST", _TEACHING, teaching.start, "Start to teach a new part from the frames that come, or add to the last teaching.",
             teaching.TeachingAnswer, body=teaching.TeachingRequest, errors=(404, 409, 503)),
    Endpoint("DELETE", _TEACHING, teaching.cancel, "Cancel the teaching; its pictures stay.", teaching.TeachingAnswer, errors=(404, 409)),
    Endpoint("POST", f"{_TEACHING}/finish", teaching.finish, "Fit the model to the accepted pictures.",
             teaching.TeachingAnswer, errors=(404, 409, 503)),
    Endpoint("POST", f"{_TEACHING}/install", teaching.install, "Install the taught model, and make it the active one.",
             teaching.TeachingAnswer, errors=(404, 409, 503)),
    Endpoint("GET", f"{_TEACHING}/pictures/{{picture}}", teaching.picture, "An accepted picture as JPEG.",
             query=teaching.TaughtPictureQuery, media="image/jpeg", errors=(404, 409)),
    Endpoint("DELETE", f"{_TEACHING}/pictures/{{picture}}", teaching.drop, "Leave out an accepted picture, and pictures like it.",
             teaching.TeachingAnswer, errors=(404, 409)),
    Endpoint("GET", f"{API}/alerts", alerts.alerts, "Alerts, the last to arrive first.", alert_models.Alerts, query=alert_models.AlertsQuery),
    Endpoint("GET", _ALERT, alerts.alert, "One alert.", alert_models.Record, errors=(404,)),
    *(
        Endpoint("GET", f"{_ALERT}/{kind}", alerts.media, f"The {kind} of an alert.",
                 media="video/webm" if kind == "clip" else "image/jpeg", errors=(404, 416))
        for kind in ("snapshot", "heatmap", "peak", "clip")
    ),
    Endpoint("POST", f"{_ALERT}/acknowledge", alerts.acknowledge, "Acknowledge an alert; a held one closes.", alert_models.Record,
             body=alert_models.Acknowledgement, errors=(404, 409)),
    Endpoint("POST", f"{_ALERT}/judge", alerts.judge, "Judge an alert: defect, false alarm or unsure.", alert_models.Record,
             body=alert_models.JudgementRequest, errors=(404, 409)),
    Endpoint("POST", f"{_ALERT}/learn", line_models.learn, "Teach the active model that an alert was false.", line_models.Learned,
             body=line_models.LearnRequest, errors=(404, 409, 503)),
    Endpoint("GET", f"{API}/models", line_models.models, "Installed models of the line, the active one and why.",
             line_models.LineModels, errors=(404, 503)),
    Endpoint("GET", f"{API}/models/{{model}}/threshold-images.jpg", line_models.threshold_images,
             "Picture of the good images that set a model's threshold.", media="image/jpeg", errors=(404,)),
    Endpoint("POST", f"{API}/models/install", line_models.install, "Install a bundle that lies on this device; answers at once.",
             line_models.LineModels, body=line_models.InstallRequest, status=202, errors=(404, 503)),
    Endpoint("POST", f"{API}/models/activate", line_models.activate, "Make an installed model the active one.",
             line_models.LineModels, body=line_models.ActivateRequest, errors=(404, 503)),
    Endpoint("POST", f"{API}/models/rollback", line_models.roll_back, "Make the model before the active one again.",
             line_models.LineModels, body=line_models.RollBackRequest, errors=(404, 409, 503)),
    Endpoint("GET", f"{API}/shadow", shadows.shadow, "What a shadow model would have changed, and its cost.",
             shadows.ShadowAnswer, errors=(404,)),
    Endpoint("GET", f"{API}/shadow/pictures/{{picture}}", shadows.picture, "A frame that both models judge differently.",
             media="image/jpeg", errors=(404,)),
    Endpoint("GET", f"{API}/changes", alerts.changes, "Threshold changes, newest first.", alert_models.Changes),
    Endpoint("GET", f"{API}/events", alerts.events, "Server-sent events: alert, camera and change.",
             media="text/event-stream", errors=(503,)),
    Endpoint("GET", "/healthz", stream.healthz, "Liveness: ok or stalled.", media=_PLAIN, errors=(503,), access="open"),
    Endpoint("GET", "/readyz", stream.readyz, "Readiness: ready, or the part that is not: stalled, waiting, camera or spool.",
             media=_PLAIN, errors=(503,), access="open"),
    Endpoint("GET", "/metrics", stream.metrics, "Metrics in the Prometheus text format.",
             media=_PLAIN, access="local"),
)  # fmt: skip
