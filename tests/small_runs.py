"""Settings of runs that take seconds."""

SMALL = {
    "model.name": "shufflenet_v2_x0_5",
    "model.pretrained": False,
    "data.height": 64,
    "data.width": 32,
    "data.workers": 0,
    "sampler.num_instances": 4,
    "train.batch_size": 32,
    "train.max_epoch": 1,
    "cluster.eps": 0.6,
    "cluster.k1": 8,
    "cluster.k2": 3,
    "cluster.min_samples": 2,
    "engine.iters": 2,
    "use_gpu": False,
}


def pairs(settings):
    return [str(part) for pair in settings.items() for part in pair]
